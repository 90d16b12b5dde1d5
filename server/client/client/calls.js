// @ts-check
/**
 * Calls: what they need beyond a chat. A chat does not load it.
 *
 * @typedef {import('./wire.js').ServerMessage} ServerMessage
 * @typedef {import('./room.js').Room} Room
 */
import { Microphone } from './microphone.js';
import { Peer } from './peer.js';
import { wished } from './tell.js';

export class Calls {
  microphone = new Microphone();
  /** Whether the network may have changed since the last word of the server. */ #moved = false;
  /** @type {RTCIceServer[]} */ #iceServers = [];

  /** @param {import('../client.js').Options} options @param {() => void} probe Asks whether the server is there. */
  constructor(options, probe) {
    this.options = options;
    this.probe = probe;
    // What no call can be made with is told at once; and a browser that has made a connection makes the next one sooner.
    new RTCPeerConnection({ ...options.rtc, iceServers: options.iceServers }).close();
  }

  /** Has the microphone, unless the user only listens. @param {AbortSignal} [signal] */
  async ready(signal) {
    signal?.throwIfAborted();
    const { microphone, options } = this;
    if (options.media !== 'listen' && !microphone.track) await wished(microphone.open(), signal);
  }

  /** Another user of a room. @param {import('./peer.js').Member} member @param {Room} room */
  peer(member, room) {
    const { iceServers = this.#iceServers, rtc } = this.options;
    const { post } = room.wire;
    return new Peer(member, this.microphone, { ...rtc, iceServers }, {
      send: (type, payload) => post({ type, payload, to: room.name ? member.id : undefined }),
      interrupted: this.probe,
      ended: (result) => this.options.report && post({ type: 'call_report', ...result }),
    });
  }

  /** The network may have changed: a new way needs the server, and is looked for when it is there again. */
  moved() {
    this.#moved = true;
  }

  /** @param {import('./session.js').Incoming} message @param {Room | null} room */
  take(message, room) {
    switch (message.type) {
      case 'offer': case 'answer': case 'ice_candidate': return room?.peers.get(message.from)?.receive(message.type, message.payload);
      // What was being agreed on is lost in part: it is agreed on anew.
      case 'relay_gap': this.#moved = true; // falls through
      case 'session': case 'resumed': case 'ice_servers': {
        const { ice_servers } = /** @type {{ice_servers?: RTCIceServer[]}} */ (message);
        const { iceServers = (this.#iceServers = ice_servers ?? this.#iceServers) } = this.options;
        room?.peers.forEach((peer) => {
          peer.setIceServers(iceServers);
          if (this.#moved) peer.restart();
        });
        this.#moved = false;
      }
    }
  }
}
