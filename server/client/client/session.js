// @ts-check
/**
 * A session without I/O. It is told what happens, and tells `out` what to do: which transport carries the session, when another
 * one is tried, what is sent again, and when a loss is one.
 *
 * @typedef {'ws' | 'sse' | 'poll'} Kind
 * @typedef {'trial' | 'again' | 'silence' | 'answer' | 'probe'} Timer
 * @typedef {import('./wire.js').ServerMessage} ServerMessage
 * @typedef {import('./wire.js').ClientMessage} ClientMessage
 * @typedef {Extract<ServerMessage, {type: 'resumed'}>} Resumed
 * @typedef {Pick<Resumed, 'type' | 'received'> & Partial<Resumed>} CarriedOn What stands for `resumed` where the server says none.
 * @typedef {{type: 'taken', received: number}} Taken Of an answer to what was sent: it says nothing of the way back.
 * @typedef {ServerMessage | CarriedOn | Taken} Incoming
 *
 * @typedef {object} Link Something that may carry the session.
 * @property {(requests: ClientMessage[]) => void} write
 * @property {() => void} shut What it says from then on is not heard.
 *
 * @typedef {object} Heard What a link says, never before it is there.
 * @property {(message: Incoming) => void} message
 * @property {(code?: number, reason?: string, retryAfter?: number) => void} lost Once, and the last. The code is that of a close
 *   frame, or the status of an answer; absent: there was none. The time is in milliseconds.
 *
 * @typedef {object} Out
 * @property {(kind: Kind, token: string, after: number, heard: Heard) => Link} open Begins a session, or carries that of the
 *   token on behind a message.
 * @property {(name: Timer, ms?: number) => void} wait Without a time: no longer.
 * @property {() => number} now In milliseconds, from whenever.
 * @property {() => void} calm Waits for nothing any more.
 * @property {(message: Incoming) => void} deliver
 * @property {() => boolean} hurry Whether a loss interrupts somebody: then there is no time to lose.
 * @property {(untaken: ClientMessage[]) => void} anew The session before is over, without having taken this, and another one
 *   has taken its place.
 * @property {() => void} changed There is another state or transport.
 * @property {(reason: string) => void} end
 */

/** How long a transport has for its first message: together less than the 3 s in which users are to hear each other again. */
const TRIAL = { ws: 1000, sse: 1500, poll: 3000 };
/** While another one carries the session there is time, as on ways that are slow. */
const TRIAL_BEHIND = 5000;
/** When WebSocket is tried again while another transport carries the session, in milliseconds after the last try; then none for
 * two minutes, then one each 30 s. Browsers make who fails more often wait, at other sites too. */
const BEHIND = [500, 1000, 2000, 4000, 120_000];
const BEHIND_LATER = 30_000;
/** How long nothing may come after the time that the server has said for its next ping. */
const GRACE = 3000;
/** How long a request of the app may have no answer, nor anything else come, before we ask whether the server is there. */
const ANSWER = 3000;
/** How long the answer to that may take. */
const PROBE = 1500;
/** How long who is interrupted by a loss is in a hurry: the waits between rounds, which double, get no longer than this meanwhile. */
const HURRY = 120_000;
const HURRIED_WAIT = 2000;
const FIRST_WAIT = 250;
const LONGEST_WAIT = 30_000;
/** A link that brings only its first message and lasts for no longer has failed, in milliseconds: it may be cut there each time. */
const LASTS = 5000;
/** What is kept that the server has not confirmed. */
const MAX_KEPT = 64;
const MAX_KEPT_LENGTH = 200_000;
/** What the numbers of a message take, in bytes. */
const NUMBERS = 99;
/** How many messages are confirmed at a time, where nothing else confirms them. */
const CONFIRM = 32;

/** The session is over, and another may begin. @param {string} reason */
const isOver = (reason) => /^(draining|too_old|resume_(refused|overflow))$/.test(reason);
/** Another session would end in the same way. The code is that of a close frame, or the status of an answer: 408, 409 and 429
 * pass by. @param {number} code @param {string} reason */
const isFinal = (code, reason) =>
  !isOver(reason) && /^(100[029]|4003|4[5-9]..|4(?!0[89]|29)..) |replaced/.test(`${code} ${reason}`);

export class Session {
  /** @type {'connecting' | 'open' | 'reconnecting' | 'closed'} */
  state = 'connecting';
  #token = '';
  /** The number of the last message that has arrived. */ #after = 0;
  /** @type {ClientMessage[]} What the server has not confirmed. */ #kept = [];
  #seq = 0;
  /** The link that carries the session. @type {Link | null} */ #carrier = null;
  /** When it began, or when the last one was lost, in milliseconds. */ #since = 0;
  /** The place of its transport in the order of all. */ #place = 0;
  /** A link that has not said anything yet. @type {Link | null} */ #trial = null;
  #trialPlace = 0;
  /** Whether links that were given up may still be on their way to the server. */ #isYoung = false;
  /** The wait after the last time that all transports have failed; 0: one works. */ #waited = 0;
  /** Whether something was asked, and nothing has come since. */ #asks = false;
  /** How often better ones have failed while another carries the session. */ #behind = 0;
  /** Not before the server has said so, in milliseconds. */ #retryAfter = 0;
  /** The server's first message. @type {any} */ #hello;

  /** @type {Kind[]} */ #kinds;
  /** @type {Out} */ #out;
  /** From 0.8 to 1.2, so that not all come at the same moment. @type {() => number} */ #spread;

  /** @param {Kind[]} kinds The best first. @param {Out} out @param {() => number} [random] From 0 to 1. */
  constructor(kinds, out, random = Math.random) {
    this.#kinds = kinds;
    this.#out = out;
    this.#spread = () => 0.8 + 0.4 * random();
  }

  /** What carries the session. */
  get transport() {
    return (this.#carrier && this.#kinds[this.#place]) || '';
  }

  /** Begins, or does not wait any longer for the next try. */
  now() {
    if (this.#carrier || this.#trial || this.state === 'closed') return;
    this.#waited = 0;
    this.#try(0);
  }

  /** The network may have changed. */
  probe() {
    if (!this.#carrier) return this.now();
    this.#write([{ type: 'ping' }]);
    this.#out.wait('probe', PROBE);
  }

  close() {
    this.#write([{ type: 'leave' }]);
    this.#end('closed');
  }

  /** Why this is not to be sent, if so. @param {ClientMessage} request */
  refuses(request) {
    if (this.state === 'closed') return 'closed';
    // The server closes the connection of who sends more.
    if (new Blob([JSON.stringify(request)]).size > this.#hello.limits.max_message_bytes - NUMBERS) return 'too_large';
    return (this.#kept.length >= MAX_KEPT || JSON.stringify(this.#kept).length > MAX_KEPT_LENGTH) && 'too_much_unsent';
  }

  /** @param {ClientMessage} request */
  send(request) {
    if (request.id != null) this.#ask();
    if (request.type === 'ping') return this.#write([request]);
    const numbered = { ...request, seq: ++this.#seq };
    this.#kept.push(numbered);
    this.#write([numbered]);
  }

  /** The server has taken what was sent, up to this number. */
  #taken(received = 0) {
    this.#kept = this.#kept.filter(({ seq = 0 }) => seq > received);
  }

  /** @param {Timer} name */
  timer(name) {
    if (name === 'again') return this.#trial || this.#try(0);
    if (name === 'answer') return this.probe();
    const link = name === 'trial' ? this.#trial : this.#carrier;
    link?.shut();
    this.#lost(link);
  }

  /** @param {Link} link @param {Incoming} message */
  #message(link, message) {
    if (link === this.#trial) return this.#first(link, message);
    if (link !== this.#carrier) return;
    this.#taken(/** @type {{received?: number}} */ (message).received);
    if (message.type === 'taken') return;
    // More than a first message has come: the transport works.
    this.#waited = 0;
    this.#asks = false;
    this.#out.wait('answer');
    this.#out.wait('probe');
    if (message.type === 'ping') {
      this.#isYoung = false;
      this.#out.wait('silence', message.next_ms + GRACE);
      return this.#confirm();
    }
    // What is answered has arrived, and all before it.
    if ('id' in message) this.#taken(this.#kept.find(({ id }) => id === message.id)?.seq);
    if (/** @type {{code?: string}} */ (message).code === 'gap') this.#write(this.#kept);
    const { seq } = message;
    if (seq != null) {
      if (seq <= this.#after) return;
      // A transport that loses messages is lost itself: the next one brings them.
      if (seq > this.#after + 1) return this.timer('silence');
      this.#after = seq;
      if (seq % CONFIRM === 0) this.#confirm();
    }
    this.#out.deliver(message);
  }

  /** @param {Link | null} link @param {number} [code] @param {string} [reason] @param {number} [retryAfter] */
  #lost(link, code = 0, reason = 'lost', retryAfter = 0) {
    if (link === this.#trial) return this.#failed(code, reason, retryAfter);
    if (link !== this.#carrier) return;
    this.#carrier = null;
    const now = this.#out.now();
    if (now - this.#since > LASTS) this.#waited = this.#behind = 0;
    this.#since = now;
    this.#out.calm();
    // Our own next transport has taken its place, and may yet say so; or one that was given up came late.
    const isOurs = reason === 'replaced' && (this.#trial || this.#isYoung);
    if (isFinal(code, reason) && !isOurs) return this.#end(reason);
    const isNew = isOver(reason);
    if (isNew) this.#token = '';
    this.#change('reconnecting');
    // It may have had more time, while there was no hurry.
    if (this.#trial) return this.#out.wait('trial', TRIAL[/** @type {Kind} */ (this.#kinds[this.#trialPlace])]);
    if (this.#waited && !isNew) this.#try(this.#place + 1);
    else if (this.#out.hurry()) this.#try(0);
    else this.#out.wait('again', 1000 * this.#spread() - 800);
  }

  /** @param {number} place */
  #try(place) {
    const kind = this.#kinds[place];
    if (kind) {
      const link = (this.#trial = this.#out.open(kind, this.#token, this.#after, {
        message: (message) => this.#message(link, message),
        lost: (...why) => this.#lost(link, ...why),
      }));
      this.#trialPlace = place;
      this.#out.wait('trial', this.#carrier ? TRIAL_BEHIND : TRIAL[kind]);
    } else {
      // All have failed.
      const longest = this.#out.hurry() && this.#out.now() < this.#since + HURRY ? HURRIED_WAIT : LONGEST_WAIT;
      this.#waited = Math.min(2 * this.#waited || FIRST_WAIT, longest);
      this.#out.wait('again', Math.max(this.#retryAfter, this.#waited * this.#spread()));
      this.#retryAfter = 0;
    }
  }

  /** @param {number} code @param {string} reason @param {number} retryAfter */
  #failed(code, reason, retryAfter) {
    const next = this.#trialPlace + 1;
    this.#trial = null;
    this.#out.wait('trial');
    if (this.#carrier) return next < this.#place ? this.#try(next) : this.#waitBehind();
    this.#retryAfter = Math.max(this.#retryAfter, retryAfter);
    if (isFinal(code, reason) || (this.state === 'connecting' && next >= this.#kinds.length)) return this.#end(reason);
    const isNew = isOver(reason) && this.#token;
    if (isNew) this.#token = '';
    this.#try(isNew ? next - 1 : next);
  }

  #waitBehind() {
    this.#out.wait('again', (BEHIND[this.#behind++] ?? BEHIND_LATER) * this.#spread());
  }

  /** The first message of a link: from now on it carries the session. @param {Link} link @param {Incoming} message */
  #first(link, message) {
    const begins = message.type === 'session';
    const wasThere = this.state !== 'connecting';
    if (!begins && message.type !== 'resumed') return;
    this.#carrier?.shut();
    this.#carrier = link;
    this.#isYoung = wasThere || this.#trialPlace > 0;
    this.#place = this.#trialPlace;
    this.#trial = null;
    this.#since = this.#out.now();
    this.#waited ||= FIRST_WAIT / 2;
    this.#asks = false;
    this.#out.calm();
    if (this.#place) this.#waitBehind();
    this.#token = message.resume_token ?? this.#token;
    const untaken = this.#kept;
    if (begins) {
      this.#hello = message;
      this.#after = this.#seq = 0;
      this.#kept = [];
    } else {
      this.#taken(message.received);
      this.#write(this.#kept);
      if (this.#kept.length) this.#ask();
    }
    // A poll has no pings: it is one itself.
    if (this.transport !== 'poll') this.#out.wait('silence', this.#hello.heartbeat_ms + GRACE);
    this.#change('open');
    this.#out.deliver(message);
    if (begins && wasThere) this.#out.anew(untaken);
  }

  /** @param {ClientMessage[]} requests */
  #write(requests) {
    if (requests.length) this.#carrier?.write(requests);
  }

  /** An answer is to come. */
  #ask() {
    if (this.#asks || !this.#carrier) return;
    this.#asks = true;
    this.#out.wait('answer', ANSWER);
  }

  #confirm() {
    this.#write([{ type: 'pong', ack: this.#after }]);
  }

  /** @param {'open' | 'reconnecting'} state */
  #change(state) {
    this.state = state;
    this.#out.changed();
  }

  /** @param {string} reason */
  #end(reason) {
    if (this.state === 'closed') return;
    this.#carrier?.shut();
    this.#trial?.shut();
    this.#carrier = this.#trial = null;
    this.#out.calm();
    this.state = 'closed';
    this.#out.end(reason);
    this.#out.changed();
  }
}
