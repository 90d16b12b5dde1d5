/** What a browser has for calls, in the hands of a test: a microphone that is allowed, and connections that are
 * made, when it says so. */

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
  addTransceiver() {}
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

/** A connection to another user that connects when the test says so. */
export class Connection {
  /** The newest. @type {Connection} */ static last;
  connectionState = 'new';
  signalingState = 'stable';
  remoteDescription = null;
  direction = 'sendrecv';

  constructor() {
    Connection.last = this;
  }

  /** @param {string} state */
  becomes(state) {
    this.connectionState = state;
    this.onconnectionstatechange();
  }

  /** Has found an address of its own. */
  finds() {
    const candidate = { candidate: 'candidate:1 1 udp 1 192.0.2.1 1 typ host', sdpMid: '0' };
    this.onicecandidate({ candidate: { ...candidate, toJSON: () => candidate } });
  }

  addTransceiver() {
    this.makesFirst = true;
  }
  addTrack(track) {
    this.track = track;
  }
  getTransceivers() {
    this.received ??= new Track();
    const replaceTrack = async (/** @type {any} */ track) => void (this.track = track);
    this.transceiver ??= { direction: 'recvonly', currentDirection: this.direction, receiver: { track: this.received }, sender: { replaceTrack } };
    this.transceiver.currentDirection = this.direction;
    return this.makesFirst || this.remoteDescription || this.track ? [this.transceiver] : [];
  }
  async setRemoteDescription(description) {
    this.remoteDescription = description;
  }
  async setLocalDescription() {
    this.localDescription = { type: this.remoteDescription ? 'answer' : 'offer', sdp: 'v=0' };
  }
  async addIceCandidate() {}
  async getStats() {
    return new Map();
  }
  restartIce() {}
  close() {}
}
globalThis.RTCPeerConnection = Connection;
