// Browser client: portraits over HTTP, speech up and video down over one WebSocket, played by Media Source Extensions.
import { Player, whyNot } from "./player.js";

const $ = (id) => document.getElementById(id);

const MAX_IMAGES = 3;

let chosen = null;
let stream = null;
let player = null; // of the latest stream: plays on after its socket has closed
let playable = false; // whether this browser can play what the service sends
let sampleRate = 0; // of the speech that the service expects, in Hz

// ---- HTTP ---------------------------------------------------------------------------------------------------------

async function api(path, options = {}) {
  const headers = $("key").value ? { Authorization: `Bearer ${$("key").value}` } : {};
  const response = await fetch(`v1/${path}`, { ...options, headers }).catch((error) => {
    throw new Error(`the service cannot be reached (${error.message})`);
  });
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `${response.status} ${response.statusText}`);
  return body;
}

async function refresh() {
  const { portraits } = await api("portraits");
  if (!portraits.some((portrait) => portrait.portrait_id === chosen)) chosen = portraits.at(-1)?.portrait_id ?? null;
  $("none").hidden = portraits.length > 0;
  $("portraits").replaceChildren(...portraits.map(row));
  update();
}

function row(portrait) {
  const item = document.createElement("li");
  const choose = document.createElement("button");
  choose.type = "button";
  choose.className = "choose";
  choose.textContent = portrait.name || portrait.portrait_id;
  const note = document.createElement("small");
  note.textContent = ` ${portrait.images} ${portrait.images === 1 ? "image" : "images"}`;
  choose.append(note);
  choose.setAttribute("aria-pressed", String(portrait.portrait_id === chosen));
  choose.onclick = () => { chosen = portrait.portrait_id; refresh().catch(say); };
  const remove = document.createElement("button");
  remove.type = "button";
  remove.textContent = "Delete";
  remove.onclick = () => api(`portraits/${portrait.portrait_id}`, { method: "DELETE" }).then(refresh).catch(say);
  item.append(choose, remove);
  return item;
}

$("register").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  const data = new FormData(form);
  data.set("consent", form.consent.checked ? "true" : "false");
  const status = $("register-status");
  if (form.images.files.length > MAX_IMAGES) {
    status.className = "status wrong";
    status.textContent = `choose one to three images, not ${form.images.files.length}`;
    return;
  }
  status.className = "status";
  status.textContent = "looking for the face …";
  try {
    const portrait = await api("portraits", { method: "POST", body: data });
    chosen = portrait.portrait_id;
    form.reset();
    status.textContent = "registered";
    await refresh();
  } catch (error) {
    status.className = "status wrong";
    status.textContent = error.message;
  }
};

// ---- streaming ------------------------------------------------------------------------------------------------------

const CLOSED = {
  1000: "the service closed the stream before it had ended",
  1001: "the service is shutting down",
  1006: "the connection to the service was lost",
  1008: "the service refused the stream",
  1009: "the service refused a message that is too large",
  1011: "the stream failed in the service",
  1012: "the service is restarting",
  1013: "the service is full; try again later",
};

class Stream {
  // `speak(stream)` starts sending audio and resolves to a function that stops it.
  constructor(portraitId, idle, speak) {
    this.begin = performance.now();
    this.frames = 0;
    this.idle = idle;
    this.stopSpeaking = () => {};
    const address = new URL("v1/stream", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.send({ type: "start", portrait_id: portraitId, idle, api_key: $("key").value || null });
    this.socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.event(JSON.parse(data), speak).catch((error) => this.fail(error));
      else this.player?.append(data);
    };
    this.socket.onclose = (event) => this.close(event);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  sound(buffer) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(buffer);
  }

  async event(event, speak) {
    switch (event.type) {
      case "started":
        player?.close();
        player = this.player = new Player($("video"), event, {
          live: this.idle,
          onplayhead: (seconds) => {
            this.send({ type: "playhead", seconds });
            $("buffered").textContent = `${this.player.ahead().toFixed(1)} s`;
          },
          onerror: (error) => this.fail(error),
          onmuted: (muted) => { $("unmute").hidden = !muted; },
        });
        say("speaking …");
        this.stopSpeaking = await speak(this);
        if (this.closed) this.stopSpeaking(); // while the browser asked for the microphone
        break;
      case "block":
        this.player.announce(event);
        if (this.frames === 0) $("first").textContent = `${Math.round(performance.now() - this.begin)} ms`;
        this.frames += event.frames;
        $("latency").textContent = `${Math.round(event.latency_ms)} ms`;
        $("frames").textContent = String(this.frames);
        break;
      case "cleared":
        this.player.skipTo(event.media_s);
        say("interrupted");
        break;
      case "ended":
        // The service closes the socket; closing it from here would cut its last message off.
        this.finished = true;
        this.player?.end();
        if (!this.failed) say(`${event.seconds.toFixed(2)} s in ${event.blocks} blocks`);
        break;
      case "error":
        this.failed = true;
        say(new Error(event.message));
        break;
    }
  }

  end() {
    this.stopSpeaking();
    this.send({ type: "end" });
  }

  // Reports an error in the page and ends the stream.
  fail(error) {
    if (!this.failed) say(error); // the first error is the cause of the others
    this.failed = true;
    this.stopSpeaking();
    this.socket.close();
  }

  close({ code, reason }) {
    this.closed = true;
    if (!this.finished && !this.failed) {
      say(new Error(`${CLOSED[code] ?? "the connection was closed"} (${reason ? `${reason}, ` : ""}code ${code})`));
    }
    this.stopSpeaking();
    this.player?.end();
    if (stream === this) stream = null;
    update();
  }
}

const REFUSED = {
  NotAllowedError: "access to the microphone was denied: allow it in the browser's settings for this page",
  NotFoundError: "no microphone was found",
  NotReadableError: "the microphone is in use by another program, or failed",
};

async function microphone(stream) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("the browser allows a microphone only on pages served over HTTPS or from localhost");
  }
  const wanted = { channelCount: 1, echoCancellation: true };
  const media = await navigator.mediaDevices.getUserMedia({ audio: wanted }).catch((error) => {
    throw new Error(REFUSED[error.name] ?? `the microphone cannot be used: ${error.message}`);
  });
  const [track] = media.getAudioTracks();
  track.onended = () => say(new Error("the microphone was disconnected"));
  let context;
  const stop = () => {
    media.getTracks().forEach((each) => each.stop());
    if (context && context.state !== "closed") context.close();
  };
  try {
    let source;
    [context, source] = await opened(media, track.getSettings().sampleRate);
    await context.audioWorklet.addModule("capture.js");
    const capture = new AudioWorkletNode(context, "capture", {
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { targetRate: sampleRate },
    });
    capture.onprocessorerror = () => stream.fail(new Error("reading the microphone failed"));
    capture.port.onmessage = ({ data }) => stream.sound(data);
    // Its output is silence; some browsers run only what leads to the loudspeakers.
    source.connect(capture).connect(context.destination);
    if (context.state === "suspended") context.resume().catch(say);
  } catch (error) {
    stop();
    throw error;
  }
  return stop;
}

// A context at the device's own rate: Firefox connects no microphone to a context of another rate.
async function opened(media, microphoneRate) {
  let context = new AudioContext();
  try {
    return [context, context.createMediaStreamSource(media)];
  } catch (error) {
    await context.close();
    if (!microphoneRate) throw error;
    context = new AudioContext({ sampleRate: microphoneRate });
    return [context, context.createMediaStreamSource(media)];
  }
}

async function decode(file) {
  const context = new OfflineAudioContext(1, 1, sampleRate);
  const sound = await context.decodeAudioData(await file.arrayBuffer());
  const pcm = new Int16Array(sound.length);
  const channels = Array.from({ length: sound.numberOfChannels }, (_, index) => sound.getChannelData(index));
  for (let i = 0; i < pcm.length; i++) {
    const sample = channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length;
    pcm[i] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
  }
  return pcm;
}

// Sends a recording at the pace of speech, 20 ms at a time.
function recording(pcm) {
  return async (stream) => {
    const chunk = sampleRate / 50;
    const begin = performance.now();
    let at = 0;
    const timer = setInterval(() => {
      const due = Math.min(pcm.length, Math.ceil(((performance.now() - begin) / 1000 + 0.02) * sampleRate));
      for (; at < due; at += chunk) stream.sound(pcm.slice(at, at + chunk).buffer);
      if (at >= pcm.length) stream.end();
    }, 20);
    return () => clearInterval(timer);
  };
}

function begin(idle, speak) {
  for (const id of ["first", "latency", "buffered", "frames"]) $(id).textContent = "–";
  $("hint").hidden = $("unmute").hidden = true;
  say("starting …");
  // Called within the click, while the browser still allows playback with sound; it then allows it later on as well.
  if (!player) $("video").play().catch(() => {});
  $("video").pause();
  stream = new Stream(chosen, idle, async (current) => {
    try {
      return await speak(current);
    } catch (error) {
      current.failed = true;
      say(error);
      current.end();
      return () => {};
    }
  });
  update();
}

$("microphone").onclick = () => begin(true, microphone);
$("sound").onchange = async ({ target }) => {
  const [file] = target.files;
  if (!file) return;
  const pcm = await decode(file).catch(() => null);
  target.value = "";
  if (pcm?.length) begin(false, recording(pcm));
  else say(new Error(`${file.name}: the browser cannot decode this sound file`));
};
$("unmute").onclick = () => {
  $("video").muted = false;
  $("video").play().catch(say);
};
$("interrupt").onclick = () => stream?.send({ type: "clear" });
$("stop").onclick = () => stream?.end();
$("key").onchange = () => refresh().catch(say);

// ---- page -----------------------------------------------------------------------------------------------------------

function say(message) {
  const wrong = message instanceof Error;
  $("status").className = wrong ? "status wrong" : "status";
  $("status").textContent = wrong ? message.message : message;
}

function update() {
  const ready = playable && chosen !== null && stream === null;
  $("microphone").disabled = $("sound").disabled = !ready;
  $("interrupt").disabled = $("stop").disabled = stream === null;
}

const info = await api("info").catch(say);
if (!info) $("service").textContent = "not connected";
if (info) {
  $("service").textContent = `${info.preset} · ${info.width}×${info.height} · ${info.fps} frames/s`;
  sampleRate = info.sample_rate;
  $("key-form").hidden = !info.needs_api_key;
  const reason = whyNot(info.media_type);
  playable = reason === null;
  if (reason) say(new Error(reason));
  if (!info.needs_api_key) await refresh().catch(say);
}
