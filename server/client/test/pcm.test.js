/** What `/transcribe` gets of a microphone: the sound is the same at every rate, and nothing is heard that was not there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backlog } from '../client/backlog.js';
import { CHUNK, Chunks, RATE, Resampler } from '../client/pcm.js';

/** The first samples are those before the sound has begun, in the filter's view. */
const SETTLED = 200;

/** A tone at a rate, resampled, as it comes: in blocks of a worklet. */
function resample(rate, hertz, seconds = 1) {
  const tone = Float32Array.from({ length: Math.round(rate * seconds) }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / rate));
  const heard = [];
  const resampler = new Resampler(rate, (sample) => heard.push(sample));
  for (let at = 0; at < tone.length; at += 128) resampler.take(tone.subarray(at, at + 128));
  return heard;
}

const loudness = (samples) => Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
const decibels = (ratio) => 20 * Math.log10(ratio);

for (const rate of [8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000]) {
  test(`at ${rate} Hz a tone stays what it was, sample by sample`, () => {
    for (const hertz of [50, 440, Math.min(3000, rate * 0.3)]) {
      const heard = resample(rate, hertz);
      assert.ok(Math.abs(heard.length - RATE) < 80, `${heard.length} samples of a second`);
      for (let i = SETTLED; i < heard.length; i++) {
        const expected = Math.sin((2 * Math.PI * hertz * i) / RATE);
        assert.ok(Math.abs(heard[i] - expected) < 0.002, `${hertz} Hz: sample ${i} is ${heard[i]}, not ${expected}`);
      }
    }
  });
}

test('what lies above 8 kHz is not heard as something else', () => {
  for (const rate of [32_000, 44_100, 48_000, 96_000]) {
    for (const hertz of [8100, 9000, 10_000, 12_345, 15_500]) {
      const level = decibels(loudness(resample(rate, hertz).slice(SETTLED)) / Math.SQRT1_2);
      assert.ok(level < -60, `${hertz} Hz at ${rate} Hz: ${level} dB`);
    }
  }
});

test('speech up to 6 kHz is as loud as it was', () => {
  for (const rate of [44_100, 48_000]) {
    for (const hertz of [100, 1000, 4000, 6000]) {
      const level = decibels(loudness(resample(rate, hertz).slice(SETTLED)) / Math.SQRT1_2);
      assert.ok(Math.abs(level) < 0.1, `${hertz} Hz at ${rate} Hz: ${level} dB`);
    }
  }
});

test('in the long run there are neither more nor fewer samples', () => {
  for (const rate of [44_100, 48_000]) assert.ok(Math.abs(resample(rate, 100, 60).length - 60 * RATE) < 80);
});

test('chunks are 100 ms of 16 bits, and too loud is as loud as it gets', () => {
  const chunks = [];
  const to = new Chunks((chunk) => chunks.push(chunk));
  for (const sample of [0, 1, -1, 0.5, 7, -7]) to.push(sample);
  for (let i = 6; i < 2.5 * CHUNK; i++) to.push(0);
  assert.deepEqual(chunks.map(({ length }) => length), [1600, 1600]);
  assert.deepEqual([...chunks[0].slice(0, 6)], [0, 32767, -32767, 16384, 32767, -32767]);
  assert.notEqual(chunks[0].buffer, chunks[1].buffer);
});

test('a backlog keeps the newest, and counts what it drops', () => {
  const backlog = new Backlog(3);
  const numbered = (n) => Int16Array.of(n);
  assert.deepEqual([1, 2, 3, 4, 5].map((n) => backlog.push(numbered(n))), [true, true, true, false, false]);
  assert.equal(backlog.dropped, 2);
  assert.deepEqual(backlog.take().map(([n]) => n), [3, 4, 5]);
  assert.equal(backlog.length, 0);
  assert.equal(backlog.push(numbered(6)), true);
});
