// @ts-check
/** The user's microphone: asked for once, and used by every call. */
import { VoicematchError } from './error.js';

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

  /** Asks the user. @param {string} [deviceId] Absent: the one that the system prefers. */
  async open(deviceId) {
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
    });
  }

  /** @param {boolean} muted */
  mute(muted) {
    this.muted = muted;
    if (this.track) this.track.enabled = !muted;
  }

  close() {
    this.#use(null);
  }

  /** @param {MediaStreamTrack | null} track */
  #use(track) {
    this.track?.stop();
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
    this.open().catch(() => this.close());
  }
}
