// @ts-check
/**
 * Captions of a room. The server tells what was said to the host alone, who passes it on to the others as messages of the room:
 * whoever is named there as host is so only by their own word, so the page says whose captions they are.
 */
import { CAPTIONS as TYPE, at, isCaption, nameOf, setProblem, show } from './view.js';

/**
 * @typedef {import('../client.js').Voicematch} Voicematch @typedef {import('../client.js').Room} Room @typedef {import('../client.js').Peer} Peer
 * @typedef {import('../client/transcribe.js').Transcription} Transcription
 *
 * @typedef {object} Caption
 * @property {string} speaker A participant's id.
 * @property {string} name Of the speaker; empty: who passes it on.
 * @property {string} text What they seem to be saying, empty: nothing any more; with a number, what they said.
 * @property {number} [seq]
 */

/** How often captions are passed on at the most, in milliseconds, and how many at once. */
const SHARE = 250;
const BATCH = 20;
/** What is kept to be passed on, and what is shown. */
const KEPT = 200;
const LENGTH = 1000;
/** How long words are shown that nothing follows, in milliseconds. */
const STALE = 8000;

/** Whether the user has said that they do not want to be transcribed. It holds until they change it, also for another host. */
let isOff = false;

/** The host's token, from the link that was opened; this tab keeps it, and the address shows it no longer. @param {string} room */
export function hostToken(room) {
  const key = `host ${room}`;
  const token = new URLSearchParams(location.hash.slice(1)).get('host');
  if (token) {
    sessionStorage.setItem(key, token);
    history.replaceState(null, '', location.pathname + location.search);
  }
  return token ?? sessionStorage.getItem(key) ?? '';
}

/** Shows captions in this room, if it has any, until it ends. @param {Room} room @param {Voicematch} vm */
export function captionRoom(room, vm) {
  const captions = new Captions(room, vm);
  room.addEventListener('message', (/** @type {any} */ { detail: { from, data } }) => isCaption(data) && captions.hear(from, data));
  room.addEventListener('left', (/** @type {any} */ { detail }) => captions.left(detail));
  room.addEventListener('joined', () => captions.announce());
  room.addEventListener('ended', () => captions.end());
  const token = hostToken(room.name);
  if (token) captions.host(token).catch((error) => captions.fail(error));
}

class Captions {
  /** @type {Transcription | null} */ #transcription = null;
  /** Who passes captions on to us. @type {Peer | null} */ #from = null;
  #isHost = false;
  /** Names of participants, for the host. @type {Map<string, string>} */ #names = new Map();
  /** What is to be passed on. @type {Caption[]} */ #said = [];
  /** The same, of what may yet change: by speaker. @type {Map<string, Caption>} */ #saying = new Map();
  #announces = false;
  #isSharing = false;
  /** One message after the other. */ #turn = Promise.resolve();
  /** What has been shown: a host may pass a caption on twice. @type {Set<string>} */ #shown = new Set();
  /** What is being said, by speaker. @type {Map<string, {line: HTMLElement, stale: ReturnType<typeof setTimeout>}>} */ #lines = new Map();

  /** @param {Room} room @param {Voicematch} vm */
  constructor(room, vm) {
    this.room = room;
    this.vm = vm;
  }

  /** @param {string} token */
  async host(token) {
    const { Transcription, viewSession } = await import('../client/transcribe.js');
    // A wrong link is known before anything is sent.
    await viewSession(this.room.name, { token });
    const transcription = this.#begin(new Transcription({ token, track: this.vm.microphone?.track }));
    transcription.addEventListener('ready', (/** @type {any} */ { detail: { provider, role } }) => {
      if (role !== 'host') return this.fail(new Error('this link is not the host’s'));
      if (!provider) return this.fail(new Error('this server does not transcribe'));
      this.#isHost = true;
      this.#notice('This call is transcribed: the server hears who speaks here, and stores what was said. You share the captions.');
      this.announce();
    });
    const told = (/** @type {any} */ { detail }) => (this.#turn = this.#turn.then(() => this.#told(detail, token)));
    for (const type of ['partial', 'final', 'gap']) transcription.addEventListener(type, told);
  }

  /** What the server has told the host. @param {any} message @param {string} token */
  async #told(message, token) {
    const { speaker, seq } = message;
    const isOwn = speaker === this.#transcription?.participant;
    const name = isOwn ? '' : await this.#nameOf(speaker, token);
    const text = message.type === 'gap' ? `[${Math.round((message.to_ms - message.from_ms) / 100) / 10} s not transcribed]` : message.text;
    const caption = { speaker, name, text: text.slice(0, LENGTH), ...(seq && { seq }) };
    this.#show(caption, 'You');
    if (seq) {
      this.#said.push(caption);
      this.#said.splice(0, this.#said.length - KEPT);
      this.#saying.delete(speaker);
    } else this.#saying.set(speaker, caption);
    this.#share();
  }

  /** @param {string} speaker @param {string} token */
  async #nameOf(speaker, token) {
    if (!this.#names.has(speaker)) {
      const { viewSession } = await import('../client/transcribe.js');
      const view = await viewSession(this.room.name, { token, signal: AbortSignal.timeout(5000) }).catch(() => null);
      for (const { id, name, user } of view?.participants ?? []) this.#names.set(id, name ?? user);
    }
    return this.#names.get(speaker) ?? 'Somebody';
  }

  /** Says to all who are there, and to who comes later, that the call is transcribed. */
  announce() {
    if (!this.#isHost) return;
    this.#announces = true;
    this.#share();
  }

  /** Passes on what there is, one message after the other. */
  async #share() {
    if (this.#isSharing) return;
    this.#isSharing = true;
    while (this.#isHost && (this.#announces || this.#said.length || this.#saying.size)) {
      this.#announces = false;
      const said = this.#said.splice(0, BATCH);
      const captions = [...said, ...[...this.#saying.values()].slice(0, BATCH)];
      this.#saying.clear();
      // The server may be away for a while: what was said is passed on afterwards.
      await this.room.send({ type: TYPE, host: this.#transcription?.participant, captions }).catch(() => this.#said.unshift(...said));
      await new Promise((resolve) => setTimeout(resolve, SHARE));
    }
    this.#isSharing = false;
  }

  /** What a member passes on. @param {Peer} from @param {any} data */
  hear(from, data) {
    if (this.#isHost || (this.#from && this.#from !== from)) return;
    if (!data.host) return void (this.#from && this.end());
    if (!this.#from) {
      this.#from = from;
      this.#notice(`This call is transcribed: the server hears who speaks here, and stores what was said. ${nameOf(from)} shares the captions.`);
      if (this.vm.microphone?.track) this.#speak().catch((error) => this.fail(error));
    }
    for (const caption of Array.isArray(data.captions) ? data.captions.slice(0, 2 * BATCH) : []) {
      if (typeof caption?.text !== 'string' || typeof caption.speaker !== 'string') continue;
      this.#show(caption, caption.speaker === this.#transcription?.participant ? 'You' : nameOf(from));
    }
  }

  /** What we say is transcribed, too. */
  async #speak() {
    const { Transcription, joinSession } = await import('../client/transcribe.js');
    const who = { user: crypto.randomUUID(), name: `Guest ${(this.room.you?.n ?? 0) + 1}` };
    const from = this.#from;
    const { token, id } = await joinSession(this.room.name, who);
    // The host may have left meanwhile, and another one may have come.
    if (!from || this.#from !== from) return;
    this.#begin(new Transcription({ token, track: this.vm.microphone?.track })).participant = id;
  }

  /** @param {Transcription} transcription */
  #begin(transcription) {
    this.#transcription = transcription;
    const { microphone } = this.vm;
    const changed = () => transcription.setTrack(microphone?.track ?? null);
    microphone?.addEventListener('changed', changed);
    transcription.addEventListener('state', () => {
      if (transcription.state !== 'open') this.#lines.forEach((_, speaker) => this.#clear(speaker));
    });
    transcription.addEventListener('error', (/** @type {any} */ { detail }) => this.fail(detail, false));
    transcription.addEventListener('ended', (/** @type {any} */ { detail }) => {
      microphone?.removeEventListener('changed', changed);
      if (this.#transcription === transcription) this.end(detail.reason);
    });
    show('untranscribed', Boolean(microphone?.track));
    const set = () => {
      at('untranscribed').setAttribute('aria-pressed', String(isOff));
      if (isOff) transcription.pause();
      else transcription.resume();
    };
    at('untranscribed').onclick = () => {
      isOff = !isOff;
      set();
    };
    set();
    return transcription;
  }

  /** @param {Peer} peer */
  left(peer) {
    if (peer === this.#from) this.end();
  }

  /** @param {any} error @param {boolean} [ends] */
  fail(error, ends = true) {
    setProblem(`There are no captions: ${error.message}.`);
    if (ends) this.end();
  }

  /** Nobody is transcribed any more. @param {string} [reason] */
  end(reason = '') {
    const transcription = this.#transcription;
    this.#transcription = null;
    transcription?.close();
    const wasHost = this.#isHost;
    this.#isHost = false;
    this.#from = null;
    this.#lines.forEach((_, speaker) => this.#clear(speaker));
    if (wasHost && !this.room.ended) this.room.send({ type: TYPE, host: null }).catch(() => {});
    if (reason === 'replaced') setProblem('The captions go on in another tab.');
    if (!this.room.ended && at('captions').checkVisibility()) at('transcribed').textContent = 'This call is not transcribed any more.';
    else show('captions', false);
    show('untranscribed', false);
  }

  /** @param {string} text */
  #notice(text) {
    if (at('captions').hidden) at('said').replaceChildren();
    show('captions', true);
    if (at('transcribed').textContent !== text) at('transcribed').textContent = text;
  }

  /** @param {Caption} caption @param {string} whose Where it has no name. */
  #show({ speaker, name, text, seq }, whose) {
    this.#clear(speaker);
    const own = whose === 'You' && speaker === this.#transcription?.participant;
    const line = captionLine(own ? whose : String(name || whose).slice(0, 64), text.slice(0, LENGTH));
    if (seq === undefined) {
      if (!text || this.#lines.size >= BATCH) return;
      at('saying').append(line);
      this.#lines.set(speaker, { line, stale: setTimeout(() => this.#clear(speaker), STALE) });
      return;
    }
    const key = `${seq} ${text}`;
    if (this.#shown.has(key)) return;
    this.#shown.add(key);
    if (this.#shown.size > KEPT) this.#shown.delete(/** @type {any} */ (this.#shown.values().next().value));
    const said = at('said');
    said.append(line);
    while (said.childElementCount > KEPT) said.firstElementChild?.remove();
    said.scrollTop = said.scrollHeight;
  }

  /** @param {string} speaker */
  #clear(speaker) {
    const { line, stale } = this.#lines.get(speaker) ?? {};
    clearTimeout(stale);
    line?.remove();
    this.#lines.delete(speaker);
  }
}

/** @param {string} name @param {string} text */
function captionLine(name, text) {
  const line = document.createElement('p');
  const who = document.createElement('b');
  who.textContent = `${name}: `;
  line.append(who, text);
  return line;
}
