// @ts-check
/**
 * From what an AudioContext hears to what `/transcribe` takes: PCM, 16 bits, mono, 16 kHz, 100 ms at a time. An AudioWorklet
 * loads this file by itself, so it imports nothing.
 */

/** Samples a second. */
export const RATE = 16_000;
/** The samples of a chunk: 100 ms. */
export const CHUNK = RATE / 10;

/** The low-pass is down by half here, in Hz: what lies above 8 kHz would be heard as something else. */
const CUTOFF = 7200;
/** How many samples of the lower of both rates it looks back, and ahead: its edge is 1.4 kHz wide, and it delays by 2 ms. */
const REACH = 32;

/** Another rate becomes `RATE`: a windowed sinc, with a set of weights for each place that an output has between two inputs. */
export class Resampler {
  /** @type {Float32Array[]} */ #weights = [];
  /** An output comes each `#step / #weights.length` inputs. */ #step;
  /** How many inputs before and behind an output have a part in it. */ #half;
  /** The newest inputs. */ #held;
  #length;
  /** Where the next output is: behind this input of `#held`, */ #at;
  /** and at this place between it and the next one. */ #phase = 0;

  /** @param {number} rate Of the input. @param {(sample: number) => void} emit */
  constructor(rate, emit) {
    this.emit = emit;
    const divisor = commonDivisor(Math.round(rate), RATE);
    this.#step = Math.round(rate) / divisor;
    this.#half = Math.ceil(REACH * Math.max(1, rate / RATE));
    const phases = RATE / divisor;
    const cutoff = Math.min(CUTOFF, rate * 0.45) / rate;
    for (let phase = 0; phase < phases; phase++) this.#weights.push(weights(this.#half, phase / phases, cutoff));
    this.#held = new Float32Array(4 * this.#half);
    // Before the first sample it was silent.
    this.#length = this.#at = this.#half - 1;
  }

  /** @param {Float32Array} samples */
  take(samples) {
    for (const sample of samples) {
      if (this.#length === this.#held.length) this.#forget();
      this.#held[this.#length++] = sample;
      while (this.#at + this.#half < this.#length) this.#next();
    }
  }

  #next() {
    const weights = /** @type {Float32Array} */ (this.#weights[this.#phase]);
    const first = this.#at - this.#half + 1;
    let sum = 0;
    for (let i = 0; i < weights.length; i++) sum += /** @type {number} */ (weights[i]) * /** @type {number} */ (this.#held[first + i]);
    this.emit(sum);
    this.#phase += this.#step;
    this.#at += Math.floor(this.#phase / this.#weights.length);
    this.#phase %= this.#weights.length;
  }

  /** What has no part in any later output. */
  #forget() {
    const past = this.#at - this.#half + 1;
    this.#held.copyWithin(0, past);
    this.#length -= past;
    this.#at -= past;
  }
}

/** @param {number} half @param {number} fraction Where the output is, from 0 to 1. @param {number} cutoff Part of the rate. */
function weights(half, fraction, cutoff) {
  const found = Float32Array.from({ length: 2 * half }, (_, i) => {
    const x = i - half + 1 - fraction;
    const turn = (Math.PI * x) / half;
    const window = 0.42 + 0.5 * Math.cos(turn) + 0.08 * Math.cos(2 * turn);
    return x ? (window * Math.sin(2 * Math.PI * cutoff * x)) / (Math.PI * x) : 2 * cutoff;
  });
  const sum = found.reduce((sum, weight) => sum + weight, 0);
  return found.map((weight) => weight / sum);
}

/** @param {number} a @param {number} b @returns {number} */
const commonDivisor = (a, b) => (b ? commonDivisor(b, a % b) : a);

/** Samples from -1 to 1 become chunks. In the order of the machine's bytes: all that browsers run on have the lowest first. */
export class Chunks {
  #chunk = new Int16Array(CHUNK);
  #length = 0;

  /** @param {(chunk: Int16Array) => void} emit */
  constructor(emit) {
    this.emit = emit;
  }

  /** @param {number} sample */
  push(sample) {
    this.#chunk[this.#length++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
    if (this.#length < CHUNK) return;
    this.emit(this.#chunk);
    this.#chunk = new Int16Array(CHUNK);
    this.#length = 0;
  }
}

const worklet = /** @type {any} */ (globalThis);
if (worklet.registerProcessor) {
  worklet.registerProcessor('voicematch-pcm', class extends worklet.AudioWorkletProcessor {
    #chunks = new Chunks((chunk) => this.port.postMessage(chunk, [chunk.buffer]));
    #resampler = new Resampler(worklet.sampleRate, (sample) => this.#chunks.push(sample));

    /** @param {Float32Array[][]} inputs */
    process([input]) {
      const samples = input?.[0];
      if (samples) this.#resampler.take(samples);
      return true;
    }
  });
}
