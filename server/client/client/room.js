// @ts-check
/** Where users chat, and hear each other: a match of two, or a room of a name. */
import { VoicematchError } from './error.js';
import { tell } from './tell.js';

/**
 * @typedef {import('./peer.js').Peer} Peer
 * @typedef {import('./wire.js').ClientMessage} ClientMessage
 * @typedef {import('./wire.js').ServerMessage} ServerMessage
 * @typedef {import('./wire.js').ReportReason} ReportReason
 * @typedef {import('./peer.js').Member} Member
 * @typedef {import('../client.js').Voicematch} Voicematch
 *
 * @typedef {object} Wire What a room needs of the session.
 * @property {(message: ClientMessage) => Promise<void>} request Resolved when the server has done it.
 * @property {(message: ClientMessage) => void} post
 * @property {(options?: import('../client.js').FindOptions) => Promise<Call>} find
 * @property {import('./calls.js').Calls} [calls] A chat has none.
 */

/** The field by which a member says how many messages have arrived. */
const HEARD = 'voicematch.heard';
/** How many messages are kept: a new server does not know those that were sent, and they are sent again. */
const MAX_SAID = 256;
/** How long members of a room of a name have to come back when its server has died, in milliseconds. */
const ABSENCE = 20_000;

/** Another user in a chat, who is not heard: what a `Peer` is in a call. @param {Member} member */
const silent = (member) => Object.assign(new EventTarget(), {
  member, remote: null, state: 'connected', level: 0, quality: {}, async play() {}, close() {},
});

/**
 * Events: `message` (`detail`: `{from, data}`), `joined` and `left` (`detail`: the peer), `ended` (`detail`: why).
 */
export class Room extends EventTarget {
  /** @type {Map<string, Peer>} The others, by their session. */ peers = new Map();
  /** Why it is over; empty: it is not. */
  ended = '';
  /** The place of the user in a room of a name. @type {{peer_id: string, n: number} | undefined} */ you;
  /** Whether the app has been told of the end. */ #isOver = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #absence;

  /** @param {string} id @param {string} name Empty: a match of two. @param {Wire} wire @param {string | undefined} ticket */
  constructor(id, name, wire, ticket) {
    super();
    this.id = id;
    this.name = name;
    this.ticket = ticket;
    this.wire = wire;
  }

  /** Says something to all others: whatever JSON can say. Resolved when it is on its way. @param {unknown} data */
  async send(data) {
    // The user may be in another room by now.
    if (this.ended) throw new VoicematchError(this.ended);
    return this.wire.request({ type: 'message', payload: data });
  }

  /** What the others say from now on, until the room ends. @returns {AsyncIterableIterator<{from: Peer, data: any}>} */
  messages() {
    const said = new ReadableStream({
      start: (said) => {
        if (this.#isOver) return said.close();
        this.addEventListener('message', (/** @type {any} */ { detail }) => said.enqueue(detail));
        this.addEventListener('ended', () => said.close());
      },
    });
    // Not all browsers can take what comes from a stream one by one.
    const reader = said.getReader();
    return { next: () => /** @type {any} */ (reader.read()), [Symbol.asyncIterator]() { return this; } };
  }

  /** @param {boolean} muted */
  mute(muted) {
    this.wire.calls?.microphone.mute(muted);
  }

  /** Speaks with another microphone. @param {string} deviceId */
  async setMicrophone(deviceId) {
    await this.wire.calls?.microphone.open(deviceId);
  }

  async leave() {
    if (this.ended) return;
    this.end('left');
    await this.wire.request({ type: 'leave_room' }).catch(() => {});
  }

  /** Does not meet them again: in this session; where the app's token names the user, for 30 days. Ends a match of two. @param {Peer} peer */
  async block(peer) {
    await this.wire.request({ type: 'block', to: peer.member.id });
    if (!this.name) this.end('left');
  }

  /** Tells the app of them. @param {Peer} peer @param {ReportReason} reason @param {string} [text] */
  report(peer, reason, text) {
    return this.wire.request({ type: 'report', to: peer.member.id, reason, text });
  }

  /** Those who are in a room of a name, as the server says. @param {(import('./wire.js').RoomMember)[]} members @internal */
  meet(members) {
    for (const member of members) this.add(member);
    // Of a server that has died some know of each other, and not all may come back.
    const absent = [...this.peers.keys()].filter((id) => !members.some((member) => member.peer_id === id));
    clearTimeout(this.#absence);
    this.#absence = setTimeout(() => absent.forEach((id) => this.remove(id)), ABSENCE);
  }

  /** @param {Omit<Member, 'id'> & {peer_id: string, was?: string}} found `was`: by which session the room that died with its
   * server knew them. @internal */
  add({ was, ...found }) {
    const member = { ...found, id: found.peer_id };
    // Who was in a room of yet another server meanwhile has kept the number.
    const former = this.peers.get(was ?? member.id) ?? [...this.peers.values()].find(({ member: { n } }) => was && n === member.n);
    if (former) return this.rename(former, member);
    const { calls } = this.wire;
    const peer = /** @type {Peer} */ (calls ? calls.peer(member, this) : silent(member));
    this.peers.set(member.id, peer);
    tell(this, 'joined', peer);
  }

  /** They are the same user in a session of its own. @param {Peer} peer @param {Partial<Member> & {id: string}} member @internal */
  rename(peer, member) {
    this.peers.delete(peer.member.id);
    Object.assign(peer.member, member);
    this.peers.set(member.id, peer);
    // What was being agreed on may be lost.
    if (peer.state !== 'connected') peer.restart();
  }

  /** Of a room with a name. @param {string} id @internal */
  remove(id) {
    const peer = this.peers.get(id);
    if (!peer) return;
    this.peers.delete(id);
    peer.close();
    tell(this, 'left', peer);
  }

  /** What another member has said. @param {{from: string, payload?: unknown}} message @internal */
  take({ from, payload }) {
    // One who has left may have said it before.
    const peer = this.peers.get(from);
    if (peer) this.hear(peer, payload);
  }

  /** @param {Peer} from @param {unknown} data @internal */
  hear(from, data) {
    // Who waits for this room gets it first, and can listen.
    setTimeout(() => tell(this, 'message', { from, data }));
  }

  /** @param {string} why @internal */
  end(why) {
    if (this.ended) return;
    this.ended = why;
    clearTimeout(this.#absence);
    this.peers.forEach((peer) => peer.close());
    setTimeout(() => {
      this.#isOver = true;
      tell(this, 'ended', why);
    });
  }
}

/** @typedef {{data: unknown, done: (value?: any) => void, failed: (error: unknown) => void}} Said */

/** A match of two. */
export class Call extends Room {
  /** What is on its way, or was: the partner counts it. @type {Said[]} */ #said = [];
  /** How many of them are forgotten. */ #forgotten = 0;
  /** What is to be sent when the partner is known to be back. @type {Said[]} */ #held = [];
  #holds = false;
  /** Whether the partner is to tell what has arrived. */ #asks = false;
  #heard = 0;

  /** @param {Extract<ServerMessage, {type: 'match_found'}>} match @param {Wire} wire */
  constructor(match, wire) {
    super(match.room_id, '', wire, match.room_ticket);
    this.sharedInterests = match.shared_interests;
    this.waitedMs = match.waited_ms;
    const { peer_id, peer_name, initiator, batch } = match;
    this.add({ peer_id, name: peer_name, offer: initiator, polite: !initiator, batch });
    this.peer = /** @type {Peer} */ (this.peers.get(peer_id));
  }

  /** What the partner says. */
  get remote() {
    return this.peer.remote;
  }

  /** Lets the user hear the partner: see {@link Peer.play}. @param {HTMLMediaElement} audio */
  play(audio) {
    return this.peer.play(audio);
  }

  /** Leaves, and waits for another partner. @param {import('../client.js').FindOptions} [options] */
  next(options) {
    return this.wire.find(options);
  }

  /** @param {unknown} data @override */
  send(data) {
    return new Promise((done, failed) => {
      const said = { data, done, failed };
      if (!this.#holds || this.ended) this.#say(said);
      else if (this.#held.push(said) > MAX_SAID) this.#held.shift()?.failed(new VoicematchError('too_much_unsent'));
    });
  }

  /** @param {Said} said */
  async #say(said) {
    if (this.#said.push(said) > MAX_SAID) {
      this.#said.shift();
      this.#forgotten++;
    }
    await super.send(said.data).then(said.done, (error) => {
      // The partner does not count what was refused.
      this.#said = this.#said.filter((other) => other !== said);
      said.failed(error);
    });
  }

  /** The server is lost, and the partner with it, for a while. @internal */
  hold() {
    this.#holds = true;
  }

  /** @param {Peer} peer @param {any} data @override @internal */
  async hear(peer, data) {
    const heard = data?.[HEARD];
    if (heard == null) {
      this.#heard++;
      return super.hear(peer, data);
    }
    // The room has come back at another server. What of ours had arrived is known now; the rest is said again, once, and one
    // after the other: so there is room for all of it.
    if (!this.#asks) return;
    this.#asks = false;
    for (const { done } of this.#said.splice(0, heard - this.#forgotten)) done();
    this.#forgotten = heard;
    this.#held.unshift(...this.#said.splice(0));
    for (let said; (said = this.#held.shift()); ) await this.#say(said);
    this.#holds = false;
  }

  /** The room is there again, at a server that does not know what was said. @param {string} id @param {string | undefined} ticket @internal */
  rejoined(id, ticket) {
    this.ticket = ticket;
    this.#asks = true;
    this.wire.post({ type: 'message', payload: { [HEARD]: this.#heard } });
    this.rename(this.peer, { id });
  }

  /** @param {string} why @override @internal */
  end(why) {
    super.end(why);
    for (const { failed } of [...this.#said, ...this.#held]) failed(new VoicematchError(why));
  }
}
