// Audio worklet: sends the microphone's samples, at the context's sample rate, in chunks of 20 ms of 16-bit PCM.
const CHUNK = sampleRate / 50;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.chunk = new Int16Array(CHUNK);
    this.filled = 0;
  }

  process([input]) {
    for (const sample of input[0] ?? []) {
      this.chunk[this.filled++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
      if (this.filled === CHUNK) {
        this.port.postMessage(this.chunk.buffer.slice(0));
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
