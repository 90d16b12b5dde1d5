/** The client over a WebSocket of the test's own: what it says, and what it is told. */
import { EventEmitter, once } from 'node:events';
import { connect } from '../client.js';

export const SESSION = { type: 'session', session_id: 'me', resume_token: 'T1', heartbeat_ms: 25_000, ice_servers: [], limits: { max_message_bytes: 65_536 } };

/** What a server would have of a WebSocket. */
export class Wire {
  /** `opened`: there is another one. */
  static events = new EventEmitter();
  readyState = 1;
  /** What the client has said. @type {any[]} */ said = [];
  isClosed = false;
  #seq = 0;

  constructor() {
    Wire.events.emit('opened', this);
  }

  /** @param {string} text */
  send(text) {
    this.said.push(JSON.parse(text));
  }

  close() {
    this.isClosed = true;
  }

  /** The newest of what the client has said of this type. @param {string} type */
  last(type) {
    return this.said.findLast((message) => message.type === type);
  }

  /** Says something to the client, with the number that a server would give it. @param {any} message */
  tells(message) {
    const numbered = /^(session|resumed|ping|pong)$/.test(message.type) ? message : { ...message, seq: ++this.#seq };
    this.onmessage?.({ data: JSON.stringify(numbered) });
  }

  /** Answers the newest request of this type. @param {string} type @param {any} answer */
  answers(type, answer) {
    this.tells({ ...answer, id: this.last(type).id });
  }

  /** @param {number} code @param {string} reason */
  loses(code = 1006, reason = '') {
    this.onclose?.({ code, reason });
  }
}
globalThis.WebSocket = Wire;

/** The next wire that the client opens. @returns {Promise<Wire>} */
export const opened = async () => (await once(Wire.events, 'opened'))[0];

/** All that is ready to happen has happened. */
export const settled = () => new Promise(setImmediate);

/** A session over a wire. @param {import('node:test').TestContext} t @param {import('../client.js').Options} [options] */
export async function session(t, options = {}) {
  const next = opened();
  const connecting = connect('http://x', { media: false, transports: ['ws'], ...options });
  const wire = await next;
  wire.tells(SESSION);
  const vm = await connecting;
  t.after(() => vm.close());
  return { vm, wire };
}

export const FOUND = {
  type: 'match_found', room_id: 'r1', peer_id: 'them', initiator: true, batch: true, waited_ms: 1, shared_interests: [], room_ticket: 'ticket of r1',
};

/** Two who talk. @param {import('node:test').TestContext} t */
export async function matched(t) {
  const { vm, wire } = await session(t);
  const finding = vm.find();
  await settled();
  wire.answers('find_match', FOUND);
  return { vm, wire, call: await finding };
}

/** The session has ended like this, and another server begins a new one. @param {Wire} wire @param {number} code @param {string} reason */
export async function another(wire, code, reason) {
  const next = opened();
  wire.loses(code, reason);
  const other = await next;
  other.tells({ ...SESSION, session_id: 'me again', resume_token: 'U1' });
  return other;
}
