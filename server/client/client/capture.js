// @ts-check
/** What a microphone hears, in chunks that `/transcribe` takes. */
import { VoicematchError } from './error.js';

export class Capture {
  /** @type {MediaStreamAudioSourceNode | undefined} */ #source;
  /** @type {MediaStreamTrack | null} */ #track = null;

  /** @param {AudioContext} context @param {AudioWorkletNode} node */
  constructor(context, node) {
    this.context = context;
    this.node = node;
  }

  /** @param {(chunk: Int16Array<ArrayBuffer>) => void} take Gets 100 ms each time. */
  static async open(take) {
    // At the rate of the machine: Firefox connects no microphone to a context of another one.
    const context = new AudioContext();
    if (!context.audioWorklet) throw new VoicematchError('insecure_page', 'browsers give sound to https pages and localhost only');
    await context.audioWorklet.addModule(new URL('./pcm.js', import.meta.url));
    const node = new AudioWorkletNode(context, 'voicematch-pcm', { channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = ({ data }) => take(data);
    // It plays nothing: some browsers run only what leads to the speaker.
    node.connect(context.destination);
    const wake = () => context.state !== 'running' && context.state !== 'closed' && context.resume().catch(() => {});
    // A call of the telephone has interrupted it.
    context.onstatechange = wake;
    wake();
    return new Capture(context, node);
  }

  /** @param {MediaStreamTrack | null} track */
  use(track) {
    if (track === this.#track) return;
    this.#track = track;
    this.#source?.disconnect();
    this.#source = track ? this.context.createMediaStreamSource(new MediaStream([track])) : undefined;
    this.#source?.connect(this.node);
  }

  close() {
    this.use(null);
    this.node.port.onmessage = this.context.onstatechange = null;
    this.context.close();
  }
}
