// Plays fragmented MP4 as it arrives, through Media Source Extensions, and keeps a live conversation at the live edge.

const KEPT = 10; // seconds of played media to keep in memory
const MAX_JITTER = 1; // seconds; a connection that is worse than that stalls
const CALM = 30_000; // milliseconds without running dry after which the buffer becomes shorter again
const TOLERATED = 0.3; // seconds behind the live edge that are not worth a change of speed
const FAR = 8; // seconds behind the live edge that are skipped; less is caught up by playing faster
const FASTEST = 1.5; // speech stays intelligible: browsers keep its pitch
const SLOWER = 0.95; // until the buffer has its length again

// Safari on the iPhone has ManagedMediaSource only; where both exist, it is the one that saves power.
const Source = () => window.ManagedMediaSource ?? window.MediaSource;

// Why this browser cannot play `mediaType`, in words, or null if it can.
export function whyNot(mediaType) {
  if (!Source()) return "This browser cannot play live video: it has neither MediaSource nor ManagedMediaSource (iPhone: iOS 17.1 or later).";
  if (!Source().isTypeSupported(mediaType)) return `This browser cannot play the video's type, ${mediaType}.`;
  return null;
}

export class Player {
  // `live`: a conversation, in which what was missed is made up for; a recording is played as it is.
  constructor(video, started, { live, onplayhead, onerror, onmuted }) {
    this.video = video;
    this.live = live;
    this.onplayhead = onplayhead;
    this.onerror = onerror;
    this.onmuted = onmuted;
    this.blockS = started.block_frames / started.fps;
    this.startAfter = started.play_after_s;
    // How much is buffered when a block arrives, at least: the rest of the wait is spent by the first, shorter block.
    this.leastJitter = this.jitter = started.play_after_s - (started.block_frames - started.first_block_frames) / started.fps;
    this.drySince = performance.now();
    this.lookAhead = started.look_ahead_s;
    this.waiting = [];
    this.silences = []; // [begin, end] in seconds of media: silence that replaced late sound
    this.streaming = true; // whether the browser wants media now (ManagedMediaSource)
    this.measured = null; // seconds that were left to play when the last block arrived
    this.playing = this.ending = this.closed = false;
    this.stopped = new AbortController();
    this.listen(video, "error", () => this.fail(`the video cannot be played: ${video.error?.message || `code ${video.error?.code}`}`));
    this.listen(video, "waiting", () => this.ranDry());
    this.listen(video, "ended", () => clearInterval(this.timer));
    // Phones pause the video of a hidden page.
    this.listen(document, "visibilitychange", () => { if (!document.hidden && this.playing && !video.ended) video.play().catch(() => {}); });
    this.listen(video, "volumechange", () => this.onmuted(video.muted));
    this.open(started.media_type);
    this.timer = setInterval(() => this.tick(), 250);
  }

  listen(target, type, listener) {
    target.addEventListener(type, listener, { signal: this.stopped.signal });
  }

  open(mediaType) {
    const { video } = this;
    // Without this, a ManagedMediaSource does not open: such media cannot be sent on to another device.
    video.disableRemotePlayback = true;
    this.source = new (Source())();
    this.listen(this.source, "sourceopen", () => {
      if (this.buffer) return;
      URL.revokeObjectURL(video.src);
      try {
        this.buffer = this.source.addSourceBuffer(mediaType);
      } catch (error) {
        return this.fail(`the browser refused ${mediaType}: ${error.message}`);
      }
      this.listen(this.buffer, "updateend", () => this.feed());
      this.listen(this.buffer, "error", () => this.fail("the browser could not read the media it received"));
      this.feed();
    });
    this.listen(this.source, "startstreaming", () => { this.streaming = true; this.feed(); });
    this.listen(this.source, "endstreaming", () => { this.streaming = false; });
    video.preservesPitch = video.webkitPreservesPitch = true;
    video.playbackRate = 1;
    video.muted = false;
    video.src = URL.createObjectURL(this.source);
  }

  // A block's event, which comes just before its media.
  announce({ start_s, seconds, silence_s }) {
    this.measured = this.measure();
    if (silence_s < seconds - 0.001) return;
    const [begin, end] = [start_s + this.lookAhead, start_s + seconds];
    const last = this.silences.at(-1);
    if (last && start_s - last[1] < 0.001) last[1] = end;
    else this.silences.push([begin, end]);
  }

  append(bytes) {
    if (this.closed) return;
    this.waiting.push(bytes);
    this.feed();
  }

  // Seconds that are buffered ahead of the playhead.
  ahead() {
    return Math.max(0, this.edge() - this.video.currentTime);
  }

  edge() {
    const ranges = this.video.buffered;
    return ranges.length ? ranges.end(ranges.length - 1) : 0;
  }

  // Skips what is buffered but was interrupted.
  skipTo(seconds) {
    if (seconds > this.video.currentTime) this.video.currentTime = seconds;
  }

  // No more media will come: plays what is buffered.
  end() {
    this.ending = true;
    this.setRate(1);
    this.feed();
  }

  // Stops playback and releases the video element.
  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.stopped.abort();
  }

  fail(message) {
    this.close();
    this.onerror(new Error(message));
  }

  feed() {
    const { buffer, source, video } = this;
    if (this.closed || !buffer || buffer.updating || source.readyState !== "open") return;
    const ranges = buffer.buffered;
    if (ranges.length && !this.playing && !this.starting) this.startSoon();
    try {
      // A stream is endless: remove what was played long ago, before the browser refuses more.
      if (ranges.length && video.currentTime - ranges.start(0) > 2 * KEPT) buffer.remove(0, video.currentTime - KEPT);
      else if (this.waiting.length) {
        if (!this.streaming) return;
        buffer.appendBuffer(this.waiting[0]);
        this.waiting.shift();
      } else if (this.ending) {
        if (!ranges.length) return this.close(); // the speech was too short for a frame, or never came
        source.endOfStream();
        this.start();
      }
    } catch (error) {
      if (error.name !== "QuotaExceededError") this.fail(`the browser refused media: ${error.message}`);
      else if (ranges.length && video.currentTime - ranges.start(0) > 1) buffer.remove(0, video.currentTime - 0.5);
      // Otherwise the buffer is full of what was not played yet: `tick` tries again.
    }
  }

  // The first block plays for less time than the second takes to come: the service says how long to wait.
  startSoon() {
    this.starting = true;
    setTimeout(() => this.start(), 1000 * this.startAfter);
  }

  start() {
    if (this.playing || this.closed) return;
    this.playing = true;
    const { video } = this;
    video.play().catch((error) => {
      if (error.name !== "NotAllowedError") return this.refused(error);
      // Some browsers allow no sound without a click, but muted playback.
      video.muted = true;
      video.play().catch((reason) => this.refused(reason));
    });
  }

  refused(error) {
    // Aborted: paused, or another stream was opened. The video's error event reports what is wrong with the media.
    if (this.closed || ["AbortError", "NotSupportedError"].includes(error.name)) return;
    this.onerror(new Error(`the browser does not start the video: ${error.message}`));
  }

  // ---- the live edge ---------------------------------------------------------------------------------------------

  tick() {
    this.onplayhead(this.video.currentTime);
    this.feed();
    if (this.playing && !this.ending && this.buffer && !this.waiting.length) this.follow();
  }

  // How much was left to play when a block arrived; null while that is not meaningful.
  measure() {
    return this.playing && !this.waiting.length ? this.ahead() : null;
  }

  // Just after a block's arrival, block + jitter are buffered at the live edge: what is more than that is behind it.
  behind() {
    return this.ahead() - this.blockS - this.jitter;
  }

  // Returns to the live edge: jumps over silence and from far behind, otherwise plays faster.
  follow() {
    const { video } = this;
    if (video.seeking) return;
    if (this.live && this.behind() > TOLERATED) {
      const silence = this.silences.find(([begin, end]) => begin <= video.currentTime && video.currentTime < end - 0.1);
      if (this.behind() > FAR) this.skipTo(this.edge() - this.blockS - this.jitter);
      else if (silence) this.skipTo(Math.min(silence[1], this.edge() - this.blockS - this.jitter));
    }
    this.silences = this.silences.filter(([, end]) => end > video.currentTime);
    this.setRate(this.rate());
    if (performance.now() - this.drySince > CALM) {
      this.jitter = Math.max(this.leastJitter, this.jitter - 0.1);
      this.drySince = performance.now();
    }
  }

  rate() {
    const behind = this.live ? this.behind() : 0;
    if (behind > (this.video.playbackRate > 1 ? 0 : TOLERATED)) return Math.min(FASTEST, 1.1 + 0.2 * behind);
    // Blocks arrive when little is left: plays slower until more is.
    const least = this.video.playbackRate < 1 ? this.jitter : this.jitter / 2;
    return this.measured !== null && this.measured < least ? SLOWER : 1;
  }

  setRate(rate) {
    const rounded = Math.round(20 * rate) / 20; // each change costs the browser some work
    if (this.video.playbackRate !== rounded) this.video.playbackRate = rounded;
  }

  // The buffer was too short for this connection.
  ranDry() {
    if (!this.playing || this.ending || this.video.seeking) return;
    this.jitter = Math.min(MAX_JITTER, this.jitter + 0.1);
    this.drySince = performance.now();
  }
}
