// @ts-check
/**
 * Voice and chat with voicematch, in a browser; chat in Node.js and in workers too.
 *
 *     import { connect } from './client.js';
 *     const vm = await connect();
 *     const call = await vm.find();
 *     await call.play(audio);
 *
 * @typedef {import('./client/wire.js').Criteria} Criteria
 * @typedef {import('./client/wire.js').ClientMessage} ClientMessage
 * @typedef {import('./client/session.js').Incoming} Incoming
 * @typedef {import('./client/session.js').Kind} Kind
 *
 * @typedef {object} Options
 * @property {AbortSignal} [signal] Ends the session.
 * @property {string | (() => string | Promise<string>)} [token] Of the app. A function is asked again before it expires.
 * @property {RTCIceServer[]} [iceServers] In place of the server's.
 * @property {RTCConfiguration} [rtc] More for each call, as `{iceTransportPolicy: 'relay'}`.
 * @property {boolean | 'listen'} [media] `false`: chat alone. `'listen'`: without a microphone. Otherwise the user is asked
 *   for it before the first match.
 * @property {Kind[]} [transports] The best first.
 * @property {boolean} [report] The user lets the server count whether calls come about: paths and times, no addresses.
 *
 * @typedef {{criteria?: Criteria, signal?: AbortSignal}} FindOptions
 *
 * @typedef {import('./client/peer.js').Peer} Peer
 * @typedef {import('./client/microphone.js').Microphone} Microphone
 */
import { VoicematchError } from './client/error.js';
import { Call, Room } from './client/room.js';
import { Session } from './client/session.js';
import { tell, wished } from './client/tell.js';
import { transports } from './client/transports.js';

export { Call, Room, VoicematchError };

/** A page that was asleep finds out by a timer that comes this much too late, in milliseconds. */
const SLEPT = 3000;
/** @type {ClientMessage} */ const LEAVE = { type: 'leave_room' };
/** How long an answer may take that is not sent again, in milliseconds. */
const PATIENCE = 5000;

/** Begins a session. @param {string} [url] Of the server; absent: of this page. @param {Options} [options] */
export async function connect(url, options = {}) {
  const { media = !!globalThis.RTCPeerConnection, signal, token } = options;
  const [loaded, access] = await wished(Promise.all([media && import('./client/calls.js'), read(token)]), signal);
  const vm = new Voicematch(url ?? location.origin, options, loaded, access);
  await new Promise((resolve, reject) => {
    vm.addEventListener('state', resolve);
    vm.addEventListener('closed', (/** @type {any} */ { detail }) => reject(signal?.aborted ? signal.reason : detail));
  });
  return vm;
}

/** @param {Options['token']} token */
const read = async (token) => (typeof token === 'function' ? token() : token);

/**
 * A session. Events: `state`, `waiting`, `draining`, `closed` (`detail`: an error whose `code` says why).
 */
export class Voicematch extends EventTarget {
  /** Where the user is, or was last. @type {Room | undefined} */ #room;
  /** @type {Session} */ #session;
  /** @type {Map<unknown, {message: ClientMessage, again?: boolean, resolve: (value?: any) => void, reject: (error: unknown) => void}>} */
  #requests = new Map();
  #id = 0;
  /** The request that a match will answer; 0: none. */ #search = 0;
  /** @type {import('./client/room.js').Wire} */ #wire;
  #access = '';
  #stop = new AbortController();

  /** @param {string} url @param {Options} options @param {typeof import('./client/calls.js') | false} media
   * @param {string} [access] @internal */
  constructor(url, options, media, access = '') {
    super();
    this.url = url.replace(/\/$/, '');
    this.options = options;
    this.#access = access;
    const { transports: kinds = /** @type {Kind[]} */ (Object.keys(transports)), signal } = options;
    const session = (this.#session = new Session(kinds, this.#out()));
    const calls = media ? new media.Calls(options, () => session.probe()) : undefined;
    /** The user's; of a chat `null`. */
    this.microphone = calls?.microphone ?? null;
    this.#wire = {
      request: (message) => this.#request(message),
      post: (message) => session.send(message),
      find: (options) => this.find(options),
      calls,
    };
    signal?.addEventListener('abort', () => this.close(), { signal: this.#stop.signal });
    this.#listen();
    session.now();
  }

  /** `connecting`, `open`, `reconnecting` (a call goes on meanwhile), `closed`. */
  get state() {
    return this.#session.state;
  }

  /** What carries the session now. */
  get transport() {
    return this.#session.transport;
  }

  /** Where the user is, if anywhere. */
  get room() {
    return this.#room?.ended === '' ? this.#room : null;
  }

  /** Waits for a partner; leaves the room, if in one. @param {FindOptions} [options] @returns {Promise<Call>} */
  async find({ criteria, signal } = {}) {
    if (this.#search) throw new VoicematchError('already_waiting');
    try {
      return await this.#enter({ type: this.room ? 'next' : 'find_match', criteria }, 'cancel_match', signal, (this.#search = ++this.#id));
    } finally {
      this.#search = 0;
      // No match was made: where the server has not begun to look for one, the user is still in the room there.
      if (this.#room?.ended === 'next') this.#wire.post(LEAVE);
    }
  }

  /** Joins the room of a name: 1 to 64 of `A-Z a-z 0-9 _ -`. @param {string} name @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Room>} */
  async join(name, { signal } = {}) {
    const { room } = this;
    if (room?.name === name) return room;
    if (room) throw new VoicematchError('already_in_room');
    return this.#enter({ type: 'join_room', room: name }, 'leave_room', signal);
  }

  /** Has the microphone, where there is to be one, and asks for a room.
   * @param {ClientMessage} message @param {'cancel_match' | 'leave_room'} back What takes it back. @param {AbortSignal} [signal]
   * @param {number} [id] @returns {Promise<any>} */
  async #enter(message, back, signal, id = ++this.#id) {
    await this.#wire.calls?.ready(signal);
    signal?.throwIfAborted();
    this.room?.end('next');
    try {
      return await wished(this.#request(message, id), signal);
    } finally {
      if (this.#requests.delete(id)) this.#wire.post({ type: back });
    }
  }

  /** How long a word to the server and back takes, in milliseconds. */
  async ping() {
    const began = performance.now();
    const id = ++this.#id;
    const timer = setTimeout(() => this.#settle(id, 'reject', new VoicematchError('lost')), PATIENCE);
    await this.#request({ type: 'ping' }, id).finally(() => clearTimeout(timer));
    return performance.now() - began;
  }

  /** Does not wait any longer for the next try. */
  reconnectNow() {
    this.#session.now();
  }

  /** Ends the session. */
  close() {
    this.room?.end('closed');
    this.#session.close();
  }

  /** @param {ClientMessage} message @param {number} [id] @returns {Promise<any>} */
  #request(message, id = ++this.#id) {
    return new Promise((resolve, reject) => {
      const why = this.#session.refuses(message);
      if (why) return reject(new VoicematchError(why));
      message = { ...message, id };
      this.#requests.set(id, { resolve, reject, message });
      this.#session.send(message);
    });
  }

  /** @param {unknown} id @param {'resolve' | 'reject'} how @param {unknown} [value] */
  #settle(id, how, value) {
    this.#requests.get(id)?.[how](value);
    this.#requests.delete(id);
  }

  /** What the session wants done. @returns {import('./client/session.js').Out} */
  #out() {
    /** @type {Map<string, ReturnType<typeof setTimeout>>} */
    const timers = new Map();
    return {
      open: (kind, token, after, heard) => transports[kind]({ url: this.url, token, after, access: this.#access }, heard),
      wait: (name, ms) => {
        clearTimeout(timers.get(name));
        if (ms != null) timers.set(name, setTimeout(() => this.#session.timer(name), ms));
      },
      calm: () => timers.forEach(clearTimeout),
      deliver: (message) => this.#deliver(message),
      now: Date.now,
      hurry: () => !!this.room,
      anew: (untaken) => this.#anew(untaken),
      changed: () => tell(this, 'state'),
      end: (reason) => this.#over(new VoicematchError(reason)),
    };
  }

  /** @param {Incoming} message */
  #deliver(message) {
    // In a match it is a `Call`.
    const room = /** @type {Room & Partial<Pick<Call, 'hold' | 'rejoined'>> | null} */ (this.room);
    this.#wire.calls?.take(message, room);
    switch (message.type) {
      case 'resumed':
        // Perhaps at another node, which does not refuse it.
        for (const request of this.#requests.values()) {
          if (request.again) this.#wire.post(request.message);
          request.again = false;
        }
        return;
      case 'token_expiring':
        // If there is no new one, the session ends with a reason of its own.
        return read(this.options.token).then((token) => {
          if (token && token !== this.#access) return this.#request({ type: 'renew_token', token }).then(() => (this.#access = token));
        }).catch(() => {});
      case 'waiting':
      case 'draining': return tell(this, message.type, message);
      case 'match_found': {
        // Who does not wait any more was matched at the last moment.
        if (!this.#requests.has(this.#search)) return this.#wire.post(LEAVE);
        const call = (this.#room = new Call(message, this.#wire));
        return this.#settle(this.#search, 'resolve', call);
      }
      case 'room_joined': {
        const { room: name, room_id: id, members, room_ticket: ticket, you } = message;
        const request = this.#requests.get(message.id)?.message;
        const joined = request?.type === 'join_room' ? (this.#room = new Room(id, name, this.#wire, ticket)) : room;
        // Nobody wants it any more, or who was to come back has left meanwhile.
        if (!request || !joined) return;
        Object.assign(joined, { id, ticket, you });
        joined.meet(members);
        return this.#settle(message.id, 'resolve', joined);
      }
      case 'peer_joined': return room?.add(message);
      case 'rejoined': return room?.rejoined?.(message.peer_id, message.room_ticket);
      case 'peer_left':
        // The partner has left, too: nobody waits for the user.
        if (!room && message.reason !== 'draining') this.#room = undefined;
        if (room?.id !== message.room_id) return;
        // In a cluster a room may have no place for who was in another one of its name.
        if (room.name && message.peer_id !== room.you?.peer_id) room.remove(message.peer_id);
        // Both go to another server, and this one of the two a moment later.
        else if (message.reason === 'draining') room.hold?.();
        else room.end(message.reason);
        return;
      case 'ack':
      case 'pong': return this.#settle(message.id, 'resolve');
      case 'error': {
        const request = this.#requests.get(message.id);
        // This server sends the user on: the next one is asked.
        if (request && message.code === 'draining') return (request.again = true);
        return this.#settle(message.id, 'reject', new VoicematchError(message.code, message.message));
      }
      case 'message': return room?.take(message);
    }
  }

  /** The session before is over. @param {ClientMessage[]} untaken */
  #anew(untaken) {
    const { room } = this;
    const isMatch = !this.#room?.name;
    const ticket = isMatch && !room && this.#room?.ticket;
    if (ticket && untaken.some(({ type }) => /next|leave_room/.test(type))) {
      // The partner is to hear that the user has left.
      this.#wire.post({ type: 'rejoin', ticket });
      this.#wire.post(LEAVE);
    }
    if (isMatch) /** @type {Call | null} */ (room)?.hold();
    if (room?.ticket) this.#request({ type: 'rejoin', ticket: room.ticket }).catch(() => room.end('lost'));
    else room?.end('lost');
    for (const [id, request] of this.#requests) {
      const { type } = request.message;
      request.again = false;
      if (id === this.#search || type === 'join_room') this.#wire.post(request.message);
      // What is said in a match is said again when the partner is back.
      else if (type !== 'rejoin' && !(isMatch && room && type === 'message')) this.#settle(id, 'reject', new VoicematchError('lost'));
    }
  }

  /** @param {unknown} error */
  #over(error) {
    this.#stop.abort();
    this.microphone?.close();
    this.room?.end('closed');
    for (const id of this.#requests.keys()) this.#settle(id, 'reject', error);
    tell(this, 'closed', error);
  }

  /** What a page sees of its network and of its own sleep. */
  #listen() {
    const { signal } = this.#stop;
    const moved = () => {
      this.#wire.calls?.moved();
      this.#session.probe();
    };
    let last = Date.now();
    const timer = setInterval(() => {
      const before = last;
      last = Date.now();
      if (last - before > 1000 + SLEPT) moved();
    }, 1000);
    signal.addEventListener('abort', () => clearInterval(timer));
    if (!globalThis.window) return;
    for (const [target, type, then] of /** @type {[EventTarget | undefined, string, () => void][]} */ ([
      [window, 'online', moved],
      [/** @type {any} */ (navigator).connection, 'change', moved],
      [document, 'resume', moved],
      [document, 'visibilitychange', () => document.hidden || this.#session.probe()],
      // The page is closed, or kept asleep: nobody can be matched with it.
      [window, 'pagehide', () => this.close()],
    ])) target?.addEventListener(type, then, { signal });
  }
}
