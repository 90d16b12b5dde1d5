/** What a browser has for calls, in the hands of a test: a microphone that is allowed when the test says so, and connections that say what they are told to. */

/** The track of a microphone. */
export class Track extends EventTarget {
  readyState = 'live';
  kind = 'audio';
  enabled = true;

  stop() {
    this.readyState = 'ended';
  }

  getSettings() {
    return {};
  }
}

globalThis.MediaStream = class {
  #tracks = new Set();
  addTrack(track) { this.#tracks.add(track); }
  removeTrack(track) { this.#tracks.delete(track); }
  getTracks() { return [...this.#tracks]; }
};

/** What the user has been asked, the newest first: allow it by `allow`, or refuse it by `refuse`. */
export const prompts = [];
const mediaDevices = new EventTarget();
mediaDevices.enumerateDevices = async () => [];
mediaDevices.getUserMedia = () => new Promise((resolve, reject) => {
  const track = new Track();
  prompts.unshift({
    track,
    allow: () => resolve({ getAudioTracks: () => [track] }),
    refuse: () => reject(new DOMException('no', 'NotAllowedError')),
  });
});
Object.defineProperty(globalThis, 'navigator', { value: { mediaDevices }, configurable: true });
