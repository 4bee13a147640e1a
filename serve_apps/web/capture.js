// Audio worklet: resamples the microphone from the context's rate to `targetRate`; sends chunks of 20 ms of 16-bit PCM.

const ZERO_CROSSINGS = 32; // of the low-pass on each side of its centre, at the lower of the two rates
const ROLL_OFF = 0.92; // cut-off as a share of the lower Nyquist frequency: 80 dB down where aliasing begins
const BETA = 8; // of the Kaiser window

// Modified Bessel function of the first kind, order 0, by its power series.
function bessel0(x) {
  let sum = 1;
  for (let k = 1, term = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

// Resamples by any ratio of two integers with a windowed sinc (polyphase); keeps its state from block to block.
// Output n lies at the time of input n · from / to, without delay or drift: the position is counted in integers.
class Resampler {
  constructor(from, to) {
    let [a, b] = [from, to];
    while (b) [a, b] = [b, a % b];
    this.up = to / a;
    this.down = from / a;
    this.cutoff = ROLL_OFF * Math.min(1, to / from); // as a share of the input's Nyquist frequency
    this.half = Math.ceil(ZERO_CROSSINGS * Math.max(1, from / to));
    this.phases = new Map();
    this.phase = 0; // position of the next output after the input sample at `at`, in 1 / up samples
    this.at = this.half;
    this.kept = new Float32Array(this.half); // silence before the beginning
  }

  // Weights of the inputs at - half + 1 … at + half for an output that lies phase / up after the input at `at`.
  weights(phase) {
    let weights = this.phases.get(phase);
    if (!weights) {
      weights = new Float32Array(2 * this.half);
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        const x = i - this.half + 1 - phase / this.up;
        const y = Math.PI * this.cutoff * x;
        const window = bessel0(BETA * Math.sqrt(Math.max(0, 1 - (x / this.half) ** 2))) / bessel0(BETA);
        sum += weights[i] = (x === 0 ? 1 : Math.sin(y) / y) * window;
      }
      for (let i = 0; i < weights.length; i++) weights[i] /= sum; // a constant stays what it is
      this.phases.set(phase, weights);
    }
    return weights;
  }

  // The outputs that the input completes: the last `half` inputs wait for what follows them.
  process(input) {
    if (this.up === this.down) return input;
    const samples = new Float32Array(this.kept.length + input.length);
    samples.set(this.kept);
    samples.set(input, this.kept.length);
    const output = [];
    while (this.at + this.half < samples.length) {
      const weights = this.weights(this.phase);
      const begin = this.at - this.half + 1;
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i] * samples[begin + i];
      output.push(sum);
      this.phase += this.down;
      this.at += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    const done = Math.min(samples.length, this.at - this.half + 1);
    this.kept = samples.slice(done);
    this.at -= done;
    return output;
  }
}

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions: { targetRate } }) {
    super();
    this.resampler = new Resampler(sampleRate, targetRate);
    this.chunk = new Int16Array(targetRate / 50);
    this.filled = 0;
  }

  process([input]) {
    if (!input[0]) return true;
    for (const sample of this.resampler.process(input[0])) {
      this.chunk[this.filled++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
      if (this.filled === this.chunk.length) {
        this.port.postMessage(this.chunk.buffer.slice(0));
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
