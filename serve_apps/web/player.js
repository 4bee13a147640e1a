// Plays fragmented MP4 as it arrives, through Media Source Extensions.

const KEPT = 20; // seconds of played media to keep in memory

export class Player {
  constructor(video, mediaType) {
    this.video = video;
    this.waiting = [];
    this.ending = false;
    this.onplayhead = () => {};
    this.source = new MediaSource();
    this.source.addEventListener("sourceopen", () => {
      this.buffer = this.source.addSourceBuffer(mediaType);
      this.buffer.addEventListener("updateend", () => this.feed());
      this.feed();
    }, { once: true });
    video.src = URL.createObjectURL(this.source);
    this.timer = setInterval(() => this.onplayhead(video.currentTime), 250);
    video.play().catch(() => {
      // Some browsers allow no sound without a click, but muted playback.
      video.muted = true;
      video.play().catch(() => {});
    });
  }

  append(bytes) {
    this.waiting.push(bytes);
    this.feed();
  }

  // Seconds that are buffered ahead of the playhead.
  ahead() {
    const ranges = this.video.buffered;
    return ranges.length ? Math.max(0, ranges.end(ranges.length - 1) - this.video.currentTime) : 0;
  }

  // Skips what is buffered but was interrupted.
  skipTo(seconds) {
    if (seconds > this.video.currentTime) this.video.currentTime = seconds;
  }

  end() {
    this.ending = true;
    clearInterval(this.timer);
    this.feed();
  }

  feed() {
    if (!this.buffer || this.buffer.updating || this.source.readyState !== "open") return;
    const played = this.video.currentTime - KEPT;
    const ranges = this.buffer.buffered;
    // A stream is endless: remove what was played long ago, before the browser refuses more.
    if (ranges.length && played - ranges.start(0) > KEPT) this.buffer.remove(0, played);
    else if (this.waiting.length) this.buffer.appendBuffer(this.waiting.shift());
    else if (this.ending) this.source.endOfStream();
  }
}
