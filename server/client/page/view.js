// @ts-check
/** What the page shows. Text of others only ever becomes text. */
import { setMeter } from './levels.js';

/** @template {HTMLElement} [E=HTMLElement] @param {string} id @returns {E} */
export const at = (id) => /** @type {E} */ (document.getElementById(id));

/** @param {string} id @param {boolean} shown */
export function show(id, shown) {
  const part = at(id);
  const hadFocus = part.contains(document.activeElement);
  part.hidden = !shown;
  // Who pressed it by the keyboard is to go on from somewhere; in a call from where nothing ends it.
  if (!shown && hadFocus) at(at('mute').hidden ? 'talk' : 'mute').focus();
}

/** What to do about an error. */
export const HELP = /** @type {Record<string, string>} */ ({
  microphone_refused: 'The browser may not use the microphone. Allow it beside the address of this page, then try again; or listen only.',
  no_microphone: 'There is no microphone. Plug one in, then try again; or listen only.',
  microphone_busy: 'Another program uses the microphone. Close it, then try again.',
  insecure_page: 'Browsers give the microphone to https pages only. Open this page with https, or at localhost.',
  replaced: 'This session goes on in another tab.',
  microphone_failed: 'The browser cannot use the microphone. Choose another one below, or start the browser again.',
  banned: 'You are kept out of this server for now. Ask who runs it.',
  disconnected: 'Who runs this server has ended your session.',
  invalid_criteria: 'The server does not take these interests. Change them, then try again.',
  rate_limited: 'That was too much at once. Wait a little, then try again.',
  server_full: 'The server is full. Try again in a minute.',
  draining: 'The server is restarting. Try again in a minute.',
  token_missing: 'This server lets in users of its app only.',
  token_expired: 'Your time here is over. Come back from the app.',
  idle_timeout: 'You were away for long. Begin again when you like.',
  too_much_unsent: 'Too much waits to be sent. Wait until the server is back.',
  too_large: 'That is too long. Say it in parts.',
  room_full: 'The room is full. Ask somebody to leave it, or make another one.',
  room_unavailable: 'The room cannot be reached now. Try again in a minute.',
  lost: 'The server cannot be reached. Is your network well?',
});

/**
 * The states: the word in the circle, what the large button does, and what is said to who does not see it.
 * @type {Record<string, {word: string, button: string, said: string}>}
 */
const STATES = {
  idle: { word: 'Ready', button: 'Talk', said: 'Ready' },
  asking: { word: 'Microphone?', button: 'Stop asking', said: 'Your browser asks for the microphone' },
  waiting: { word: 'Waiting', button: 'Stop waiting', said: 'Waiting for a partner' },
  ringing: { word: 'Connecting', button: 'Next', said: 'A partner is found' },
  call: { word: 'Talking', button: 'Next', said: 'You can talk' },
  room: { word: 'Room', button: 'Leave the room', said: 'You are in the room' },
};

const icon = /** @type {HTMLLinkElement} */ (document.querySelector('link[rel=icon]'));

/** The icon of the tab: a ring, a broken one while the user waits, a full one in a call. @param {string} state */
function setIcon(state) {
  const look = state === 'idle' ? 'fill="none" stroke="#0a7d55"'
    : state === 'call' || state === 'room' ? 'fill="#0a7d55" stroke="#0a7d55"'
    : 'fill="none" stroke="#b87a00" stroke-dasharray="9 5"';
  const drawn = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="13" ${look} stroke-width="5"/></svg>`;
  icon.href = `data:image/svg+xml,${encodeURIComponent(drawn)}`;
}

/** @param {keyof STATES} state @param {string} [detail] */
export function setState(state, detail = '') {
  const { word, button, said } = /** @type {{word: string, button: string, said: string}} */ (STATES[state]);
  document.body.dataset.state = state;
  at('word').textContent = word;
  at('detail').textContent = detail;
  const talk = /** @type {HTMLButtonElement} */ (at('talk'));
  talk.textContent = button;
  talk.disabled = false;
  at('status').textContent = `${said}. ${state === 'waiting' ? '' : detail}`;
  setIcon(state);
  document.title = state === 'idle' ? 'voicematch' : `${word} - voicematch`;
  const together = state === 'ringing' || state === 'call';
  show('mute', together || state === 'room');
  show('leave', together);
  show('levels', together);
  show('conduct', together);
  show('wishes', state === 'idle' && !location.pathname.startsWith('/r/'));
  show('circle', state !== 'room');
  show('tiles', state === 'room');
  at('chat').hidden = !together && state !== 'room' && !at('log').childElementCount;
  for (const control of at('say').querySelectorAll('input, button')) {
    /** @type {HTMLInputElement} */ (control).disabled = !together && state !== 'room';
  }
}

/** @param {string} text Empty: there is none. */
export function setProblem(text) {
  const problem = at('problem');
  problem.textContent = text;
  problem.hidden = !text;
}

/** @param {string} text @param {'own' | 'other' | 'note'} whose @param {string} [name] */
export function say(text, whose, name) {
  const log = at('log');
  const line = document.createElement('p');
  line.className = whose;
  line.textContent = name ? `${name}: ${text}` : text;
  log.append(line);
  while (log.childElementCount > 200) log.firstElementChild?.remove();
  log.scrollTop = log.scrollHeight;
  at('chat').hidden = false;
  return line;
}

/** The type of messages that bring captions, and no chat. */
export const CAPTIONS = 'voicematch.captions';

/** @param {any} data Of a message. */
export const isCaption = (data) => data?.type === CAPTIONS;

let unread = 0;

/** @param {boolean} more Or: all have been read. */
export function countUnread(more) {
  unread = more ? unread + 1 : 0;
  show('unread', unread > 0);
  at('unread').textContent = `${unread} new`;
}

/** @param {import('../client.js').Peer} peer */
export const nameOf = ({ member }) => member.name ?? `Guest ${(member.n ?? 0) + 1}`;

const STATE_OF_PEER = /** @type {Record<string, string>} */ ({
  connecting: 'connecting', connected: 'here', interrupted: 'away', failed: 'no way found', closed: 'gone',
});

/** @typedef {import('../client.js').Peer} Peer */
/** A tile stays while its user does: it may have the focus. @type {WeakMap<Peer, HTMLElement>} */
const tiles = new WeakMap();
const own = tile('You');

/** @param {Map<string, Peer>} peers @param {(peer: Peer) => void} act What the user wants done about somebody. */
export function showTiles(peers, act) {
  fill(own, 'here', 'connected');
  const shown = [own, ...[...peers.values()].map((peer) => {
    const its = tiles.get(peer) ?? tile(nameOf(peer), () => act(peer));
    tiles.set(peer, its);
    fill(its, STATE_OF_PEER[peer.state] ?? peer.state, peer.state);
    return its;
  })];
  for (const former of [...at('tiles').children]) if (!shown.includes(/** @type {HTMLElement} */ (former))) former.remove();
  at('tiles').append(...shown.filter(({ isConnected }) => !isConnected));
}

/** How loud all are. @param {Map<string, Peer>} peers @param {number} ownLevel */
export function showLevels(peers, ownLevel) {
  for (const [its, level] of [[own, ownLevel], ...[...peers.values()].map((peer) => [tiles.get(peer), peer.level])]) {
    if (!(its instanceof HTMLElement)) continue;
    its.style.setProperty('--level', String(level));
    setMeter(/** @type {HTMLMeterElement} */ (its.querySelector('meter')), Number(level));
  }
}

/** @param {string} name @param {() => void} [act] Nothing is done about oneself. */
function tile(name, act) {
  const tile = document.createElement('li');
  tile.className = 'tile';
  const level = document.createElement('meter');
  level.setAttribute('aria-label', `How loud: ${name}`);
  tile.append(name, document.createElement('small'), level);
  if (act) {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = 'Report or block';
    button.setAttribute('aria-label', `Report or block ${name}`);
    button.onclick = act;
    tile.append(button);
  }
  return tile;
}

/** @param {HTMLElement} tile @param {string} words @param {string} state */
function fill(tile, words, state) {
  tile.dataset.state = state;
  const small = /** @type {HTMLElement} */ (tile.querySelector('small'));
  if (small.textContent !== words) small.textContent = words;
}
