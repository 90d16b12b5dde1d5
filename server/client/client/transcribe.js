// @ts-check
/**
 * A transcription session: what the microphone hears goes to the server, and what was said comes to whom it is for.
 *
 *     const { token } = await joinSession('abc123xyz', { user: 'p1', name: 'Ann' });
 *     const transcription = new Transcription({ token, track: vm.microphone.track });
 *     transcription.addEventListener('final', ({ detail }) => console.log(detail.speaker, detail.text));
 *
 * @typedef {import('./transcribe-wire.js').Said} Said
 * @typedef {import('./transcribe-wire.js').Told} Told
 * @typedef {import('./transcribe-wire.js').Role} Role
 *
 * @typedef {object} TranscriptionOptions
 * @property {string | (() => string | Promise<string>)} token Of the participant. A function is asked before each connection; if it
 *   fails, so does the transcription.
 * @property {string} [url] Of the server; absent: of this page.
 * @property {MediaStreamTrack | null} [track] The microphone; without it, nothing is sent.
 * @property {string} [language] What is spoken, as BCP 47; absent: the session's.
 * @property {number} [after] Tells what was said after this number first, the last 5,000 segments at the most; 0: from the beginning; absent:
 *   from now on.
 * @property {AbortSignal} [signal] Ends it.
 *
 * @typedef {{url?: string, token?: string, signal?: AbortSignal}} Asking Where, and with whose token.
 */
import { Backlog } from './backlog.js';
import { Capture } from './capture.js';
import { VoicematchError } from './error.js';
import { tell } from './tell.js';

/** The length of a chunk, in milliseconds. */
const CHUNK_MS = 100;
/** What is kept while the server takes nothing, in chunks: after it the oldest is dropped. */
const BACKLOG = 50;
/** What may wait in the socket, in bytes: 1 s. */
const IN_SOCKET = 32_000;
/** More than this many chunks at once are no live audio to the server, which takes 1.5 s in advance. */
const LIVE = 10;
/** How long to wait for the next try, in milliseconds: doubled each time. */
const AGAIN = 250;
const AGAIN_AT_MOST = 10_000;
/** How often it is looked whether the server is still there, in milliseconds; it is asked after one silent look, given up after three. */
const LOOK = 5000;
const SILENT_LOOKS = 3;

/** How often one try is sent on to another server. */
const HOPS = 3;

/** The token has ended: with another one it goes on. */
const TOKEN_ENDED = 4505;

/** Others would end in the same way. @param {number} code */
const isFinal = (code) => code === 1002 || code === 1007 || code === 1009 || (code >= 4500 && code < 5000);

/**
 * A redirect would do without the token, so the server that has the session is named, and asked the same.
 * @param {string} path @param {Asking} asking @param {object} [body] @param {number} [hops] @returns {Promise<any>}
 */
async function ask(path, { url = location.origin, token, signal }, body, hops = 0) {
  const response = await fetch(`${url.replace(/\/$/, '')}/api/sessions/${path}`, {
    method: body ? 'POST' : 'GET',
    headers: { ...(token && { authorization: `Bearer ${token}` }), ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
    ...(signal && { signal }),
  }).catch((error) => {
    throw signal?.aborted ? signal.reason : new VoicematchError('lost', error.message);
  });
  const answer = await response.json().catch(() => ({}));
  if (answer.code === 'moved' && answer.url && hops < HOPS) return ask(path, { url: answer.url, token, signal }, body, hops + 1);
  if (!response.ok) throw new VoicematchError(answer.code ?? `status_${response.status}`, answer.error);
  return answer;
}

/**
 * Joins a session: one that was created with `open`, or with a token that may. `transcribed` says whether anybody transcribes.
 * @param {string} slug @param {{user: string, name?: string, role?: Role}} who @param {Asking} [asking]
 * @returns {Promise<{id: string, role: Role, token: string, transcribed: boolean}>}
 */
export async function joinSession(slug, who, asking = {}) {
  const { participant, transcribed } = await ask(`${slug}/participants/join`, asking, who);
  return { ...participant, transcribed };
}

/**
 * The session, and who is in it.
 * @param {string} slug @param {Asking} asking
 * @returns {Promise<{slug: string, title: string | null, ended_ms: number | null, participants: {id: string, user: string, name: string | null, role: Role, connected: boolean}[]}>}
 */
export const viewSession = (slug, asking) => ask(slug, asking);

/**
 * Events, with the server's message as `detail`: `ready`, `partial`, `final`, `gap`, `stored`, `lost`, `provider_state`, `audio_ack`.
 * Events of its own: `state`; `dropped` (`detail`: milliseconds of audio that were dropped, ever); `error` (`detail`: an error: something was
 * refused, and it goes on); `ended` (`detail`: `{reason}`, and what the server says of it), once.
 */
export class Transcription extends EventTarget {
  /** @type {'connecting' | 'open' | 'reconnecting' | 'ended'} */
  state = 'connecting';
  /** Who the user is in the session, once it is open. */
  participant = '';
  /** @type {TranscriptionOptions} */ #options;
  /** @type {WebSocket | null} */ #socket = null;
  #backlog = new Backlog(BACKLOG);
  /** @type {Promise<Capture> | null} */ #capture = null;
  /** @type {MediaStreamTrack | null} */ #track;
  #paused = false;
  /** `stop` holds until `resume`, also for a server that did not hear it. */ #stopped = false;
  /** Whether the server was told that no audio comes. */ #isSilent = false;
  /** Whether the server was told how audio is to be read. */ #isStarted = false;
  /** The number of the last segment that has come. @type {number | undefined} */ #after;
  #tries = 0;
  /** The server that has the session, by the word of another one. */ #at = '';
  #hops = 0;
  /** How often nothing had come since the last look. */ #silentLooks = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #again;
  #stop = new AbortController();

  /** @param {TranscriptionOptions} options */
  constructor(options) {
    super();
    this.#options = options;
    this.#after = options.after;
    this.#track = options.track ?? null;
    const { signal } = this.#stop;
    options.signal?.addEventListener('abort', () => this.close(), { signal });
    const looks = setInterval(() => this.#look(), LOOK);
    signal.addEventListener('abort', () => clearInterval(looks));
    globalThis.addEventListener?.('online', () => this.#now(), { signal });
    if (options.signal?.aborted) setTimeout(() => this.close());
    else this.#connect();
    this.setTrack(this.#track);
  }

  /** Milliseconds of audio that were dropped, as the server did not take them in time. */
  get droppedMs() {
    return this.#backlog.dropped * CHUNK_MS;
  }

  /** Whether no audio is sent: `pause` was called, or the track is muted, switched off or gone. */
  get silent() {
    const track = this.#track;
    return this.#paused || !track?.enabled || track.muted || track.readyState === 'ended';
  }

  /** Another microphone. @param {MediaStreamTrack | null} track */
  setTrack(track) {
    this.#track = track;
    if (!track && !this.#capture) return;
    this.#capture ??= Capture.open((chunk) => this.#hear(chunk));
    this.#capture.then((capture) => this.state !== 'ended' && capture.use(this.#track), (error) => {
      this.#capture = null;
      tell(this, 'error', error instanceof VoicematchError ? error : new VoicematchError('no_sound', String(error)));
    });
    if (!track) this.#tellSilence();
  }

  /** Sends no audio until `resume`. A track that is switched off (`enabled`) does the same by itself. */
  pause() {
    this.#paused = true;
    this.#tellSilence();
  }

  /** Ends `pause`; and `stop` of a speaker, whose audio begins anew. */
  resume() {
    this.#paused = this.#stopped = false;
  }

  /** What was said is whole: of a speaker, their audio ends; of the host, the session does. */
  stop() {
    this.#flush(true);
    this.#stopped = true;
    this.#post({ type: 'stop' });
  }

  /** Leaves; the session goes on. */
  close() {
    this.#end({ reason: 'closed' });
  }

  async #connect() {
    const { token } = this.#options;
    const url = this.#at || (this.#options.url ?? location.origin);
    try {
      const access = typeof token === 'function' ? await token() : token;
      if (this.state === 'ended') return;
      const query = this.#after === undefined ? '' : `?after=${this.#after}`;
      const socket = new WebSocket(`${url.replace(/^http/, 'ws').replace(/\/$/, '')}/transcribe${query}`, ['voicematch.1', `token.${access}`]);
      this.#socket = socket;
      this.#silentLooks = 0;
      socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
      socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    } catch (error) {
      if (this.state === 'ended') return;
      // No browser connects to such an address; or the app cannot be asked for a token while the network is gone.
      if ((this.#at && error instanceof DOMException) || (this.participant && typeof token === 'function')) return this.#lost(0, '');
      this.#end({ reason: /** @type {any} */ (error)?.code ?? 'token', error });
    }
  }

  /** Browsers do not tell why a handshake was refused: a token that is good for nothing would be tried for ever. */
  async #checkToken() {
    const { token, url } = this.#options;
    // A function is asked for another one.
    if (typeof token === 'function') return;
    const error = await ask('-', { token, url, signal: AbortSignal.timeout(LOOK) }).catch((error) => error);
    if (['token_invalid', 'token_expired'].includes(error.code)) this.#end({ reason: error.code, error });
  }

  /** @param {Told} message */
  #take(message) {
    this.#silentLooks = 0;
    switch (message.type) {
      case 'ready':
        this.participant = message.participant;
        // What a server has told and not stored before it died is gone, and the numbers are given again.
        this.#after = Math.min(this.#after ?? Infinity, message.next_seq - 1);
        this.#tries = this.#hops = 0;
        this.#isSilent = this.#isStarted = false;
        this.#change('open');
        tell(this, 'ready', message);
        this.#flush(true);
        if (this.#stopped) this.#post({ type: 'stop' });
        return;
      case 'final':
      case 'gap':
        this.#after = message.seq;
        break;
      case 'error': return tell(this, 'error', new VoicematchError(message.code, message.message));
      case 'moved': return this.#move(message.url);
      case 'ended': return this.#end(message);
      case 'pong': return;
    }
    tell(this, message.type, message);
  }

  /** @param {Int16Array<ArrayBuffer>} chunk */
  #hear(chunk) {
    if (this.state === 'ended' || this.#stopped) return;
    if (this.silent) return this.#tellSilence();
    if (this.#isSilent) {
      this.#isSilent = false;
      this.#post({ type: 'resume_audio' });
    }
    if (!this.#backlog.push(chunk)) tell(this, 'dropped', this.droppedMs);
    this.#flush(false);
  }

  #tellSilence() {
    if (this.#isSilent || !this.#isStarted) return;
    this.#isSilent = true;
    this.#flush(true);
    this.#post({ type: 'pause' });
  }

  /** Sends what is kept. @param {boolean} all Even if the socket has not taken what it has. */
  #flush(all) {
    const socket = this.#socket;
    if (this.state !== 'open' || !socket || !this.#backlog.length || (!all && socket.bufferedAmount > IN_SOCKET)) return;
    const isLate = this.#backlog.length > LIVE;
    if (isLate) this.#start(false);
    else if (!this.#isStarted && this.#options.language) this.#start(true);
    this.#isStarted = true;
    for (const chunk of this.#backlog.take()) socket.send(chunk);
    if (isLate) this.#start(true);
  }

  /** @param {boolean} live */
  #start(live) {
    const { language } = this.#options;
    this.#post({ type: 'start', sample_rate: 16_000, live, ...(language && { language }) });
  }

  /** @param {Said} message */
  #post(message) {
    if (this.state === 'open') this.#socket?.send(JSON.stringify(message));
  }

  /** Another server has the session: what was not sent yet goes there. @param {string} url */
  #move(url) {
    this.#shut();
    if (this.#hops++ < HOPS) {
      this.#at = url;
      this.#change(this.state === 'connecting' ? 'connecting' : 'reconnecting');
      return this.#connect();
    }
    tell(this, 'error', new VoicematchError('moved', 'each server says that another one has the session'));
    this.#lost(0, '');
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    this.#socket = null;
    // The server that had the session may be gone: the next try begins with our own.
    this.#at = '';
    this.#hops = 0;
    const hasAnother = code === TOKEN_ENDED && typeof this.#options.token === 'function';
    if (isFinal(code) && !hasAnother) return this.#end({ reason: reason || 'refused' });
    if (this.state !== 'open') this.#checkToken();
    this.#change(this.state === 'connecting' ? 'connecting' : 'reconnecting');
    const ms = Math.min(AGAIN * 2 ** this.#tries++, AGAIN_AT_MOST) * (0.8 + 0.4 * Math.random());
    this.#again = setTimeout(() => this.#now(), ms);
  }

  /** Does not wait for the next try. */
  #now() {
    if (this.#socket || this.#again === undefined) return;
    clearTimeout(this.#again);
    this.#again = undefined;
    this.#connect();
  }

  /** A server that is gone without a word answers nothing. */
  #look() {
    if (!this.#socket) return;
    const looks = this.#silentLooks++;
    if (looks === SILENT_LOOKS) {
      this.#shut();
      this.#lost(0, '');
    } else if (looks > 0) this.#post({ type: 'ping' });
  }

  #shut() {
    const socket = this.#socket;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
    this.#socket = null;
  }

  /** @param {TranscriptionState} state */
  #change(state) {
    if (this.state === state) return;
    this.state = state;
    tell(this, 'state');
  }

  /** @param {{reason: string, [more: string]: unknown}} detail */
  #end(detail) {
    if (this.state === 'ended') return;
    this.#flush(true);
    this.#stop.abort();
    clearTimeout(this.#again);
    this.#shut();
    this.#capture?.then((capture) => capture.close(), () => {});
    this.#change('ended');
    tell(this, 'ended', detail);
  }
}

/** @typedef {Transcription['state']} TranscriptionState */
