// @ts-check
/** What the page shows. Text of others only ever becomes text. */

/** @template {HTMLElement} [E=HTMLElement] @param {string} id @returns {E} */
export const at = (id) => /** @type {E} */ (document.getElementById(id));

/** @param {string} id @param {boolean} shown */
export const show = (id, shown) => (at(id).hidden = !shown);

/** What to do about an error. */
export const HELP = /** @type {Record<string, string>} */ ({
  microphone_refused: 'The browser may not use the microphone. Allow it beside the address of this page, then press Talk; or listen only.',
  no_microphone: 'There is no microphone. Plug one in, then press Talk; or listen only.',
  microphone_busy: 'Another program uses the microphone. Close it, then press Talk.',
  insecure_page: 'Browsers give the microphone to https pages only. Open this page with https, or at localhost.',
  replaced: 'This session goes on in another tab.',
  banned: 'You are kept out of this server.',
  disconnected: 'Who runs this server has ended your session.',
  rate_limited: 'That was too much at once. Wait a little, then press Talk.',
  server_full: 'The server is full. Try again in a minute.',
  draining: 'The server is restarting. Try again in a minute.',
  token_missing: 'This server lets in users of its app only.',
  room_full: 'The room is full.',
  room_unavailable: 'The room cannot be reached now. Try again in a minute.',
  lost: 'The server cannot be reached. Is your network well?',
});

/**
 * The states: the word in the circle, what the large button does, and what is said to who does not see it.
 * @type {Record<string, {word: string, button: string, said: string}>}
 */
const STATES = {
  idle: { word: 'Ready', button: 'Talk', said: 'Ready' },
  asking: { word: 'Microphone?', button: 'Talk', said: 'Your browser asks for the microphone' },
  waiting: { word: 'Waiting', button: 'Stop waiting', said: 'Waiting for a partner' },
  ringing: { word: 'Connecting', button: 'Next', said: 'A partner is found' },
  call: { word: 'Talking', button: 'Next', said: 'You can talk' },
  room: { word: 'Room', button: 'Leave the room', said: 'You are in the room' },
};

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

/** @param {Map<string, import('../client.js').Peer>} peers */
export function showTiles(peers) {
  at('tiles').replaceChildren(
    tile('You', 'here', 'connected', 'you'),
    ...[...peers.values()].map((peer) =>
      tile(nameOf(peer), STATE_OF_PEER[peer.state] ?? peer.state, peer.state, peer.member.id)),
  );
}

/** @param {string} name @param {string} words @param {string} state @param {string} id */
function tile(name, words, state, id) {
  const tile = document.createElement('li');
  tile.className = 'tile';
  tile.dataset.state = state;
  tile.dataset.id = id;
  const small = document.createElement('small');
  small.textContent = words;
  tile.append(name, small);
  return tile;
}
