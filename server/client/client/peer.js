// @ts-check
/**
 * The call with one other user: perfect negotiation (https://www.w3.org/TR/webrtc/#perfect-negotiation-example) with the roles
 * that the server gives.
 *
 * @typedef {import('./wire.js').RelayKind} RelayKind
 * @typedef {import('./wire.js').Candidate} Candidate
 * @typedef {object} Member
 * @property {string} id Their session, by which the server knows them.
 * @property {string} [name]
 * @property {boolean} offer Whether this side makes the first offer.
 * @property {boolean} polite Whether this side gives way when two offers cross.
 * @property {boolean} [batch] Whether they take lists of candidates.
 * @property {number} [n]
 *
 * @typedef {object} Out What a peer wants done.
 * @property {(type: RelayKind, payload: unknown) => void} send
 * @property {() => void} interrupted The network may have changed.
 * @property {(report: Omit<Extract<import('./wire.js').ClientMessage, {type: 'call_report'}>, 'type'>) => void} ended
 */

import { VoicematchError } from './error.js';

/** Candidates come in bursts: how long the first of one waits for the others, and the least time between two messages. */
const BURST = 5;
const GATHER = 50;
/** A path that was lost often heals by itself. */
const HEAL = 2000;
/** Who did not make the first offer waits longer before it restarts: mostly the other does. */
const LET_OTHER = 3000;
/** After so long without a candidate of one side, or without anything to hear, it is known why. */
const LATE = 5000;

/**
 * Events: `state` (`connecting`, `connected`, `interrupted`, `failed`, `closed`), `quality` each second.
 */
export class Peer extends EventTarget {
  /** What the other says. */
  remote = new MediaStream();
  state = 'connecting';
  /** The last of each second: seconds there and back, the share of lost packets, and how the audio travels.
   * @type {{rtt?: number, lost?: number, path?: 'direct' | 'relayed', heard: boolean}} */
  quality = { heard: false };
  /** What becomes of the call: for `call_report`. In milliseconds from the match.
   * @type {{setup_ms?: number, audio_ms?: number, local?: Candidate, remote?: Candidate, restarts: number, lost_percent?: number}} */
  record = { restarts: 0 };
  #began = Date.now();
  /** What plays the other. @type {HTMLMediaElement | undefined} */ #audio;
  #making = false;
  #ignores = false;
  /** @type {RTCIceCandidateInit[]} Not yet sent. */ #gathered = [];
  /** When candidates were sent. */ #sent = 0;
  /** Whether this side has an address to be reached at. */ #isReachable = false;
  /** Whether the other has one. */ #reaches = false;
  /** @type {RTCIceCandidateInit[]} Came before the description that they belong to. */ #early = [];
  /** What was received is done in its order. */ #last = Promise.resolve();
  /** @type {number | undefined} */ #restartTimer;
  /** @type {number | undefined} */ #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #burst;

  /**
   * @param {Member} member
   * @param {import('./microphone.js').Microphone} microphone
   * @param {RTCConfiguration} configuration
   * @param {Out} out
   */
  constructor(member, microphone, configuration, out) {
    super();
    this.member = member;
    this.out = out;
    this.microphone = microphone;
    const pc = (this.pc = new RTCPeerConnection(configuration));
    pc.onicecandidate = ({ candidate }) => candidate && this.#candidate(candidate);
    pc.ontrack = ({ track }) => this.#hear(track);
    pc.onnegotiationneeded = () => {
      if (member.offer || pc.remoteDescription) this.#offer();
    };
    pc.onconnectionstatechange = () => this.#changed();
    const { track } = microphone;
    if (track) pc.addTrack(track, microphone.stream);
    else if (member.offer) pc.addTransceiver('audio');
    for (const { receiver } of pc.getTransceivers()) this.#hear(receiver.track);
    microphone.addEventListener('changed', this.#replace);
    this.#timer = setInterval(() => this.#measure(), 1000);
    // The browser asks for it only when the page has shown all that there is to show of the match.
    if (member.offer) this.#offer();
  }

  /**
   * Lets the user hear the other. It fails with `needs_click` where the browser plays nothing before a click: call it again after one.
   * @param {HTMLMediaElement} audio Of the page: made once, and used again for the next partner.
   */
  async play(audio) {
    this.#audio = audio;
    audio.srcObject = this.remote;
    await audio.play().catch((error) => {
      // Something else is played there, or the same once more.
      if (error.name !== 'AbortError') throw new VoicematchError('needs_click', error.message);
    });
  }

  /** How loud the other is, from 0 to 1. */
  get level() {
    const [source] = this.pc.getReceivers().flatMap((receiver) => receiver.getSynchronizationSources());
    return source?.audioLevel ?? 0;
  }

  /** What became of the call. @returns {{outcome: import('./wire.js').CallOutcome, reason?: import('./wire.js').CallFailure}} */
  get #result() {
    const { setup_ms, audio_ms } = this.record;
    const isLate = Date.now() - this.#began - (setup_ms ?? 0) > LATE;
    if (setup_ms != null) {
      const listens = this.pc.getTransceivers().some(({ currentDirection }) => currentDirection?.includes('recv'));
      return listens && isLate && audio_ms == null ? { outcome: 'failed', reason: 'no_audio' } : { outcome: 'connected' };
    }
    const hasFailed = this.state === 'failed';
    if ((hasFailed || isLate) && !(this.#isReachable && this.#reaches)) return { outcome: 'failed', reason: 'no_candidates' };
    return hasFailed ? { outcome: 'failed', reason: 'ice_failed' } : { outcome: 'abandoned', reason: 'left' };
  }

  /** @param {RelayKind} type @param {any} payload */
  receive(type, payload) {
    this.#last = this.#last.then(() => this.#receive(type, payload)).catch(() => {});
  }

  /** Looks for a new way to the other, as after a change of network. */
  restart() {
    const { pc } = this;
    clearTimeout(this.#restartTimer);
    if (this.state === 'closed') return;
    this.record.restarts++;
    pc.restartIce();
    // A browser makes no new offer before the last one is answered, and that may be lost, or its answer.
    if (pc.signalingState === 'have-local-offer') this.out.send('offer', pc.localDescription);
  }

  /** @param {RTCIceServer[]} iceServers */
  setIceServers(iceServers) {
    this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers });
  }

  close() {
    if (this.state === 'closed') return;
    this.out.ended({ ...this.#result, path: this.quality.path ?? 'unknown', ...this.record });
    clearTimeout(this.#restartTimer);
    clearTimeout(this.#burst);
    clearInterval(this.#timer);
    this.microphone.removeEventListener('changed', this.#replace);
    this.pc.close();
    if (this.#audio?.srcObject === this.remote) this.#audio.srcObject = null;
    this.#become('closed');
  }

  /** @param {MediaStreamTrack} track */
  #hear(track) {
    if (this.remote.getTracks().includes(track)) return;
    track.onunmute = () => (this.record.audio_ms ??= Date.now() - this.#began);
    this.remote.addTrack(track);
    // Chromium takes a stream that was empty for one that never begins.
    if (this.#audio?.srcObject === this.remote) this.play(this.#audio).catch(() => {});
  }

  async #offer() {
    this.#making = true;
    try {
      await this.pc.setLocalDescription();
      if (this.pc.localDescription?.type === 'offer') this.out.send('offer', this.pc.localDescription);
    } catch {
      // Another description was faster; it has its own answer.
    }
    this.#making = false;
  }

  /** @param {RelayKind} type @param {any} payload */
  async #receive(type, payload) {
    const { pc } = this;
    if (type === 'ice_candidate') {
      const candidates = Array.isArray(payload) ? payload : [payload];
      if (candidates.some((candidate) => candidate?.candidate)) this.#reaches = true;
      if (!pc.remoteDescription) return void (this.#early = [...this.#early, ...candidates].slice(0, 100));
      // One of an offer that was ignored, or of a description that is over, is of no use.
      for (const candidate of candidates) await pc.addIceCandidate(candidate).catch(() => {});
      return;
    }
    const collides = type === 'offer' && (this.#making || pc.signalingState !== 'stable');
    this.#ignores = collides && !this.member.polite;
    if (this.#ignores) return;
    if (/^a=candidate:/m.test(payload.sdp)) this.#reaches = true;
    await pc.setRemoteDescription(payload);
    if (type === 'offer') {
      // A microphone may have been opened before there was anything to send it by.
      this.#replace();
      await pc.setLocalDescription();
      this.out.send('answer', pc.localDescription);
    }
    for (const candidate of this.#early.splice(0)) await pc.addIceCandidate(candidate).catch(() => {});
  }

  /** @param {RTCIceCandidate} candidate */
  #candidate(candidate) {
    this.#isReachable = true;
    if (!this.member.batch) return this.out.send('ice_candidate', candidate);
    if (this.#gathered.push(candidate.toJSON()) > 1) return;
    this.#burst = setTimeout(() => {
      this.#sent = Date.now();
      this.out.send('ice_candidate', this.#gathered.splice(0));
    }, Math.max(BURST, this.#sent + GATHER - Date.now()));
  }

  #replace = () => {
    const [transceiver] = this.pc.getTransceivers();
    if (!transceiver) return;
    const { track } = this.microphone;
    transceiver.sender.replaceTrack(track).catch(() => {});
    if (track) transceiver.direction = 'sendrecv';
  };

  #changed() {
    clearTimeout(this.#restartTimer);
    const after = /** @param {number} ms */ (ms) => {
      this.#restartTimer = setTimeout(() => this.restart(), ms + (this.member.offer ? 0 : LET_OTHER));
    };
    switch (this.pc.connectionState) {
      case 'connected':
        this.record.setup_ms ??= Date.now() - this.#began;
        return this.#become('connected');
      case 'disconnected':
        after(HEAL);
        this.out.interrupted();
        return this.#become('interrupted');
      case 'failed':
        after(0);
        return this.#become('failed');
    }
  }

  /** @param {string} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }

  async #measure() {
    if (this.state === 'connecting') return;
    const all = /** @type {Map<string, any>} */ (await this.pc.getStats());
    const { quality, record } = this;
    for (const stats of all.values()) {
      if (stats.type === 'transport' && stats.selectedCandidatePairId) {
        const pair = all.get(stats.selectedCandidatePairId);
        const local = all.get(pair?.localCandidateId);
        const remote = all.get(pair?.remoteCandidateId);
        if (!local || !remote) continue;
        quality.rtt = pair.currentRoundTripTime;
        [record.local, record.remote] = [local.candidateType, remote.candidateType];
        quality.path = [record.local, record.remote].includes('relay') ? 'relayed' : 'direct';
      } else if (stats.type === 'inbound-rtp') {
        const { packetsReceived: got = 0, packetsLost: lost = 0, totalAudioEnergy = 0 } = stats;
        quality.heard = totalAudioEnergy > 0;
        if (got + lost > 0) quality.lost = Math.max(0, lost) / (got + lost);
        record.lost_percent = Math.round((quality.lost ?? 0) * 1000) / 10;
      }
    }
    this.dispatchEvent(new Event('quality'));
  }
}
