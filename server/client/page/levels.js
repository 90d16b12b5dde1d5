// @ts-check
/** How loud it is here and there. */

/** @type {AudioContext | undefined} */ let context;
/** @type {{analyser: AnalyserNode, source: MediaStreamAudioSourceNode, samples: Float32Array<ArrayBuffer>} | undefined} */ let own;

/** Measures this stream from now on. To be called after a click: browsers start no audio before. @param {MediaStream} stream */
export function listenTo(stream) {
  context ??= new AudioContext();
  context.resume();
  own?.source.disconnect();
  if (!stream.getAudioTracks().length) return void (own = undefined);
  const source = context.createMediaStreamSource(stream);
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  source.connect(analyser);
  own = { analyser, source, samples: new Float32Array(1024) };
}

/** How loud the microphone is, from 0 to 1. */
export function ownLevel() {
  if (!own) return 0;
  own.analyser.getFloatTimeDomainData(own.samples);
  return Math.min(1, Math.sqrt(own.samples.reduce((sum, x) => sum + x * x, 0) / own.samples.length) * 4);
}

/** A short tone: somebody is there. */
export function ring() {
  if (!context) return;
  const tone = new OscillatorNode(context, { frequency: 660 });
  const loudness = new GainNode(context, { gain: 0 });
  const now = context.currentTime;
  loudness.gain.linearRampToValueAtTime(0.08, now + 0.02);
  loudness.gain.linearRampToValueAtTime(0, now + 0.25);
  tone.connect(loudness).connect(context.destination);
  tone.start(now);
  tone.stop(now + 0.3);
}

/** @param {HTMLMeterElement} meter @param {number} level */
export function setMeter(meter, level) {
  meter.value = level;
  meter.textContent = level > 0.02 ? 'sound' : 'silent';
}
