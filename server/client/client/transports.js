// @ts-check
/**
 * What carries a session: WebSocket, an event stream, or polls; the last two send by requests. All have the same contract.
 *
 * @typedef {import('./session.js').Kind} Kind
 * @typedef {import('./session.js').Incoming} Incoming
 * @typedef {import('./session.js').Heard} Heard
 * @typedef {import('./session.js').Link} Link
 * @typedef {import('./wire.js').ClientMessage} ClientMessage
 *
 * @typedef {object} Asked
 * @property {string} url Of the server, `http:` or `https:`, without a slash at its end.
 * @property {string} token Of the session to carry on; empty: begin one.
 * @property {number} after The number of the last message that has arrived.
 * @property {string} access The app's token, for a session that begins.
 */

/** The longest that a request may take that is not held. */
const REQUEST = 5000;
/** How long the server holds a poll that brings nothing, in seconds; how long such a poll may take, and one that finds out
 * why there was no answer, in milliseconds. Together no more than the silence after which a stream is lost. */
const HOLD = 6;
const HELD = 8000;
const CHECK = 1500;
/** What one request takes at the most. All that is kept together is not too long. */
const BATCH = 64;

/** @param {(requests: Requests, asked: Asked) => Promise<void>} run Until the link is lost. @returns {(asked: Asked, heard: Heard) => Link} */
const byRequests = (run) => (asked, heard) => {
  const requests = new Requests(asked, heard);
  const lost = () => requests.lost();
  run(requests, asked).then(lost, lost);
  return requests;
};

/** The best first. @type {Record<Kind, (asked: Asked, heard: Heard) => Link>} */
export const transports = { ws: webSocket, sse: byRequests(eventStream), poll: byRequests(poll) };

/** @param {number} ms @returns {Promise<undefined>} */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Ends after this time, or with another signal. Node.js forgets `AbortSignal.any([signal, AbortSignal.timeout(ms)])` when it tidies
 * up: then a request never ends. @param {number} ms @param {AbortSignal} signal */
function within(ms, signal) {
  const end = new AbortController();
  const abort = () => {
    clearTimeout(timer);
    end.abort();
  };
  const timer = setTimeout(abort, ms);
  signal.addEventListener('abort', abort, { signal: end.signal });
  return end.signal;
}

/** @param {Asked} asked @param {Heard} heard @returns {Link} */
function webSocket({ url, token, after, access }, heard) {
  /** @type {WebSocket | undefined} */ let socket;
  try {
    socket = new WebSocket(`${url.replace(/^http/, 'ws')}/ws?resume=1`, ['voicematch.1', ...(token ? [`resume.${token}.${after}`] : access ? [`token.${access}`] : [])]);
    socket.onmessage = ({ data }) => heard.message(JSON.parse(data));
    socket.onclose = ({ code, reason }) => heard.lost(code, reason || undefined);
  } catch {
    // There is none here, as in Node.js before 22, or the app's token cannot be said in this way.
    setTimeout(heard.lost);
  }
  return {
    write(requests) {
      if (socket?.readyState === 1) for (const request of requests) socket.send(JSON.stringify(request));
    },
    shut() {
      socket?.close();
    },
  };
}

/** @param {Requests} requests @param {Asked} asked */
async function eventStream(requests, { after }) {
  const response = await requests.ask(`/events?after=${after}`, 0);
  if (!response?.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split('\n\n');
    rest = events.pop() ?? '';
    for (const event of events) {
      const [, ...data] = `\n${event}`.split('\ndata: ');
      if (!data.length) continue;
      // JSON has no line ends of its own: what stood in several lines is the same without them.
      const message = JSON.parse(data.join(''));
      // The end of the session is no message.
      if (!message.type) return requests.lost(message.code, message.reason);
      requests.heard(message);
    }
  }
}

/** @param {Requests} requests @param {Asked} asked */
async function poll(requests, { after }) {
  // Some proxies hold no request for long: who was cut off twice asks more often.
  let wait = 0;
  let patience = REQUEST;
  let cuts = 0;
  let pause = 1000;
  let isFirst = true;
  while (!requests.over) {
    const began = Date.now();
    const response = await requests.ask(`/poll?wait=${wait}&after=${after}`, patience, null, wait > 0);
    if (!response) {
      if (!wait) return;
      // Once it may be the network.
      if (Date.now() - began > 2000) cuts++;
      wait = 0;
      patience = CHECK;
      continue;
    }
    if (wait) cuts = 0;
    const { messages = [], received = 0, poll_after_ms } = response.status === 200 ? await response.json() : {};
    // A session that was carried by polls before is carried on without a word.
    if (isFirst && !messages[0]?.session_id) requests.heard({ type: 'resumed', received });
    isFirst = false;
    for (const message of messages) {
      after = message.seq ?? after;
      requests.heard(message);
    }
    requests.took(received);
    // None is said behind a poll that was held.
    pause = poll_after_ms || pause;
    wait = cuts < 2 ? HOLD : 0;
    patience = wait ? HELD : REQUEST;
    if (!wait) await sleep(pause);
  }
}

/** The requests of a session that is not carried by WebSocket. One at a time sends: so the order stays. @implements {Link} */
class Requests {
  over = false;
  /** @type {ClientMessage[]} */ #queue = [];
  #sends = false;
  #stop = new AbortController();
  #url;
  #to;

  /** @param {Asked} asked @param {Heard} to */
  constructor(asked, to) {
    this.token = asked.token || asked.access;
    this.#url = asked.url;
    this.#to = to;
  }

  /** @param {Incoming} message */
  heard(message) {
    if (this.over) return;
    this.token = /** @type {{resume_token?: string}} */ (message).resume_token ?? this.token;
    this.#to.message(message);
  }

  /** @param {number} [received] */
  took(received = 0) {
    this.#queue = this.#queue.filter(({ seq = Infinity }) => seq > received);
    this.heard({ type: 'taken', received });
  }

  /** @param {[code?: number, reason?: string, retryAfter?: number]} why */
  lost(...why) {
    if (this.over) return;
    this.shut();
    this.#to.lost(...why);
  }

  shut() {
    this.over = true;
    this.#stop.abort();
  }

  /**
   * The answer, or nothing where it is not one to go on with: then the link is lost already, unless `mayFail`.
   * @param {string} path @param {number} ms How long it may take; 0: for ever. @param {string | null} [body] What is sent.
   * @param {boolean} [mayFail]
   */
  async ask(path, ms, body, mayFail) {
    const response = await fetch(this.#url + path, {
      ...(body && { method: 'POST', body }),
      headers: this.token ? { Authorization: `Bearer ${this.token}` } : {},
      cache: 'no-store',
      signal: ms ? within(ms, this.#stop.signal) : this.#stop.signal,
    }).catch(() => {});
    if (!response) return mayFail ? undefined : this.lost();
    const { ok, status, headers } = response;
    if (ok || status === 304) return response;
    const { code, reason, received } = await response.json().catch(() => ({}));
    this.took(received);
    const retryAfter = /** @type {any} */ (headers.get('Retry-After')) * 1000 || 0;
    // The server wants the rest later, or drains: then the link ends by itself.
    if (body && (status === 429 || status === 503)) return sleep(retryAfter || 250);
    // The end of a session has a code of its own.
    return this.lost(reason ? code : code && status, reason ?? code, retryAfter);
  }

  /** @param {ClientMessage[]} messages */
  write(messages) {
    // It is to arrive even if the page is closed at this moment.
    if (messages[0]?.type === 'leave') return void fetch(`${this.#url}/send`, {
      method: 'POST', body: JSON.stringify({ token: this.token, messages: [...this.#queue, ...messages] }), keepalive: true,
    }).catch(() => {});
    this.#queue.push(...messages);
    if (!this.#sends) this.#send();
  }

  async #send() {
    this.#sends = true;
    while (this.#queue.length && !this.over) {
      const sent = this.#queue.slice(0, BATCH);
      const response = await this.ask('/send', REQUEST, JSON.stringify(sent));
      // An answer may break off.
      const answer = await response?.json().catch(() => this.lost());
      if (!answer) continue;
      this.#queue = this.#queue.filter((request) => !sent.includes(request));
      this.took(answer.received);
    }
    this.#sends = false;
  }
}
