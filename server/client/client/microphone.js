// @ts-check
/** The user's microphone: asked for once, and used by every call. */
import { VoicematchError } from './error.js';
import { wished } from './tell.js';

/** What a browser calls it, and what we do. */
const CODES = /** @type {Record<string, string>} */ ({
  NotAllowedError: 'microphone_refused', NotFoundError: 'no_microphone', OverconstrainedError: 'no_microphone',
  NotReadableError: 'microphone_busy', AbortError: 'microphone_busy', SecurityError: 'microphone_refused',
});

/** Event `changed`: there is another track, or none. */
export class Microphone extends EventTarget {
  /** @type {MediaStreamTrack | null} */ track = null;
  stream = new MediaStream();
  muted = false;
  #watches = false;
  #stop = new AbortController();
  /** What the user is being asked, by device. @type {Map<string | undefined, Promise<void>>} */ #asked = new Map();

  /** Asks the user: once, however often it is called meanwhile. @param {string} [deviceId] Absent: the one that the system prefers. */
  async open(deviceId) {
    this.#stop.signal.throwIfAborted();
    const asked = this.#asked.get(deviceId) ?? this.#ask(deviceId).finally(() => this.#asked.delete(deviceId));
    this.#asked.set(deviceId, asked);
    // Nobody may ever answer.
    return wished(asked, this.#stop.signal);
  }

  /** @param {string | undefined} deviceId */
  async #ask(deviceId) {
    const { mediaDevices } = navigator;
    if (!mediaDevices) throw new VoicematchError('insecure_page', 'browsers give the microphone to https pages and localhost only');
    const audio = deviceId ? { deviceId: { exact: deviceId } } : true;
    const stream = await mediaDevices.getUserMedia({ audio }).catch((error) => {
      throw new VoicematchError(CODES[error.name] ?? 'microphone_failed', error.message);
    });
    this.#use(stream.getAudioTracks()[0] ?? null);
    if (this.#watches) return;
    this.#watches = true;
    // A headset that is pulled out often ends nothing.
    mediaDevices.addEventListener('devicechange', async () => {
      const id = this.track?.getSettings().deviceId;
      const devices = await mediaDevices.enumerateDevices();
      if (id && !devices.some(({ kind, deviceId }) => kind === 'audioinput' && deviceId === id)) this.#reopen();
    }, { signal: this.#stop.signal });
  }

  /** @param {boolean} muted */
  mute(muted) {
    this.muted = muted;
    if (this.track) this.track.enabled = !muted;
  }

  /** For good. */
  close() {
    this.#stop.abort(new VoicematchError('closed'));
    this.#use(null);
  }

  /** @param {MediaStreamTrack | null} track */
  #use(track) {
    this.track?.stop();
    // The user may allow it when nobody wants it any more.
    if (this.#stop.signal.aborted) {
      track?.stop();
      track = null;
    }
    if (this.track) this.stream.removeTrack(this.track);
    this.track = track;
    if (track) {
      track.enabled = !this.muted;
      track.onended = () => this.#reopen();
      this.stream.addTrack(track);
    }
    this.dispatchEvent(new Event('changed'));
  }

  #reopen() {
    this.open().catch(() => this.#use(null));
  }
}
