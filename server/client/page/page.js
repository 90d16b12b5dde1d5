// @ts-check
/** The page: one button, one circle that is the state of the call, and a chat. */
import { connect } from '../client.js';
import { wished } from '../client/tell.js';
import { keepAwake } from './awake.js';
import { askAbout } from './conduct.js';
import { listenForKeys } from './keys.js';
import { listenTo, ownLevel, ring, setMeter } from './levels.js';
import { chosen, listDevices, offerDevices, voices } from './sound.js';
import { HELP, at, countUnread, isCaption, nameOf, say, setProblem, setState, show, showLevels } from './view.js';
import { criteria } from './wishes.js';

/**
 * @typedef {import('../client.js').Voicematch} Voicematch
 * @typedef {import('../client.js').Call} Call
 * @typedef {import('../client.js').Room} Room
 * @typedef {import('../client.js').Peer} Peer
 */

/** The largest room: everybody sends to everybody. */
const LARGEST_ROOM = 8;

/** How long a partner whom nothing reaches is waited for until the user is told what may help, in milliseconds. */
const SLOW = 6000;

/** How often levels are shown, and how long a microphone is silent before the user is asked about it, in milliseconds. */
const TICK = 80;
const QUIET = 4000;
const NOTHING_HEARD = 'Nothing comes from your microphone. Is it switched off, or in use elsewhere?';

/** @type {Voicematch | null} */ let vm = null;
/** @type {Room | null} */ let room = null;
/** @type {AbortController | null} */ let search = null;
let mayListen = false;
/** Until the user takes it back, whatever becomes of the session. */ let isMuted = false;
/** Whether the user ends it, and not the partner. */ let leaves = false;
let waitingSince = 0;
const roomName = /^\/r\/([\w-]{1,64})$/.exec(location.pathname)?.[1] ?? '';
const remote = /** @type {HTMLAudioElement} */ (at('remote'));
const box = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (at(id));

/** @param {string} text */
function note(text) {
  if (!debugs) return;
  at('debug').textContent += `${new Date().toISOString().slice(11, 23)} ${text}\n`;
}
const debugs = new URLSearchParams(location.search).has('debug');

/** The session that is being begun: whoever wants one meanwhile gets the same. @type {Promise<Voicematch> | null} */ let beginning = null;

/** A session, begun if there is none. */
function session() {
  if (vm && vm.state !== 'closed') return Promise.resolve(vm);
  return (beginning ??= begin().finally(() => (beginning = null)));
}

async function begin() {
  const began = await connect(undefined, { media: mayListen ? 'listen' : true, ...choices() });
  vm = began;
  // The user may have chosen otherwise meanwhile.
  Object.assign(began.options, choices());
  note('session');
  vm.addEventListener('state', () => {
    note(`${began.state} ${began.transport}`);
    const wasAway = document.body.hasAttribute('data-away');
    const isAway = began.state === 'reconnecting';
    document.body.toggleAttribute('data-away', isAway);
    showLine();
    if (isAway && !wasAway) at('status').textContent = awayWords();
    if (wasAway && began.state === 'open') at('status').textContent = 'Connected to the server again.';
  });
  vm.addEventListener('draining', () => note('draining'));
  vm.addEventListener('closed', (/** @type {any} */ { detail }) => {
    note(`closed ${detail.code}`);
    document.body.removeAttribute('data-away');
    if (detail.code !== 'closed') setProblem(HELP[detail.code] ?? detail.message);
    idle();
  });
  const { microphone } = began;
  // Of the session before: what the button says holds.
  microphone?.mute(isMuted);
  microphone?.addEventListener('changed', () => {
    listenTo(microphone.stream);
    listDevices();
    if (room && began.state !== 'closed') setProblem(microphone.track ? '' : 'The microphone is gone. Plug one in, and choose it below.');
  });
  showLine();
  return began;
}

/** What the user lets calls do. @returns {Pick<import('../client.js').Options, 'report' | 'rtc'>} */
const choices = () => ({
  report: box('consent').checked,
  rtc: box('relay').checked ? { iceTransportPolicy: 'relay' } : {},
});
// It holds for each call that begins from then on.
for (const id of ['consent', 'relay']) at(id).addEventListener('change', () => vm && Object.assign(vm.options, choices()));

function idle() {
  room = null;
  search = null;
  show('hear', false);
  keepAwake(false);
  setState('idle', roomName ? `The room ${roomName}` : 'Talk with somebody new');
  if (roomName) at('talk').textContent = 'Join the room';
  showLine();
}

/** Shows where the user is: in the call, if that goes on, or nowhere. */
function settle() {
  if (!room || vm?.room !== room) return idle();
  if (!room.name) showCall(/** @type {Call} */ (room));
}

/** @param {any} error */
function failed(error) {
  if (error.name !== 'AbortError') {
    note(`failed ${error.code ?? error}`);
    setProblem(HELP[error.code] ?? error.message);
    const isRefused = ['microphone_refused', 'no_microphone', 'microphone_busy'].includes(error.code);
    // Who still has a microphone would be heard all the same.
    show('listen', isRefused && !vm?.microphone?.track);
  }
  // A search goes on without the microphone that was chosen meanwhile, and ends by itself.
  if (!search) settle();
}

/** The search before: one that was taken back ends before the next begins. */
let searched = Promise.resolve();

/** @param {boolean} next */
function talk(next) {
  if (search) return;
  setProblem('');
  show('listen', false);
  const controller = (search = new AbortController());
  searched = searched.then(() => look(next, controller));
}

/** Takes the search back. */
function stop() {
  // Who does not answer the browser may not want to speak.
  show('listen', document.body.dataset.state === 'asking');
  for (const way of [search, joins]) way?.abort();
  search = joins = null;
  // The microphone or the server may take their time; the button does not.
  settle();
}

/** Microphone, session, partner: each only if it is not there yet. @param {boolean} next @param {AbortController} controller */
async function look(next, controller) {
  try {
    controller.signal.throwIfAborted();
    const began = await session();
    controller.signal.throwIfAborted();
    if (began.microphone && !began.microphone.track && !mayListen) setState('asking', 'Please allow it');
    // Nobody may ever answer the browser, and the user goes on without.
    if (!mayListen && began.microphone && !began.microphone.track) await wished(began.microphone.open(chosen()), controller.signal);
    if (began.microphone) listenTo(began.microphone.stream);
    listDevices();
    controller.signal.throwIfAborted();
    waitingSince = Date.now();
    setState('waiting', 'Looking for somebody');
    countHere();
    const options = { criteria: criteria(), signal: controller.signal };
    const call = await (next && room ? /** @type {Call} */ (room).next(options) : began.find(options));
    // It was found in the moment in which it was taken back.
    if (controller.signal.aborted) call.leave();
    controller.signal.throwIfAborted();
    search = null;
    enter(call);
    showCall(call);
    meet(call);
  } catch (error) {
    if (search !== controller) return;
    search = null;
    failed(error);
  }
}

/** What is wrong with the way to the partner. */
const TROUBLE = /** @type {Record<string, string>} */ ({
  interrupted: 'The connection is interrupted', failed: 'No way to the partner yet',
});

/** @param {Call} call */
function showCall({ peer }) {
  const wasThere = peer.record.setup_ms !== undefined;
  const trouble = TROUBLE[peer.state];
  setState(wasThere ? 'call' : 'ringing', trouble ?? (wasThere ? peer.member.name || 'Say hello' : 'A partner is found'));
  if (trouble) at('status').textContent = trouble;
}

/** What the user was told last of a partner who cannot be reached. */ let noWay = '';

/** Says what may help if the partner has never been reached. @param {Call} call */
function helpWithWay(call) {
  if (room !== call || search || call.peer.record.setup_ms !== undefined) return;
  noWay = call.peer.pc.getConfiguration().iceTransportPolicy === 'relay'
    ? 'There is no way to your partner yet. You hide your address, which needs a TURN server: show it, below, and press Next.'
    : 'There is no way to your partner yet. Another network may help, on either side. You can write meanwhile, or press Next.';
  setProblem(noWay);
}

/** @param {Call} call */
function meet(call) {
  at('log').replaceChildren();
  countUnread(false);
  if (call.sharedInterests.length) say(`You both like ${call.sharedInterests.join(', ')}`, 'note');
  if (box('tone').checked) ring();
  if (!matchMedia('(prefers-reduced-motion: reduce)').matches) navigator.vibrate?.(80);
  call.peer.addEventListener('state', () => {
    const { state } = call.peer;
    note(`call ${state}`);
    showLine();
    // Who looks for the next one sees that.
    if (room !== call || search) return;
    if (state === 'connected' && at('problem').textContent === noWay) setProblem('');
    if (state === 'failed') helpWithWay(call);
    showCall(call);
  });
  call.peer.addEventListener('quality', showLine);
  setTimeout(() => helpWithWay(call), SLOW);
  hear(call.peer, remote);
}

/** A browser may want a click before. @param {Peer} peer @param {HTMLAudioElement} audio */
function hear(peer, audio) {
  peer.play(audio).catch(() => offerSound(Boolean(room)));
}

/** @param {boolean} wanted Whether the browser waits for a click. */
function offerSound(wanted) {
  show('hear', wanted);
  if (wanted) at('status').textContent = `${room?.name ? 'Somebody' : 'Your partner'} is not played yet. Press Tap to hear.`;
}

/** What stops by a key of the system, or since a telephone rings, goes on by a click. @param {HTMLAudioElement} audio */
function watch(audio) {
  const waits = () => [remote, ...voices.values()].some(({ srcObject, paused }) => srcObject && paused);
  audio.addEventListener('pause', () => offerSound(waits()));
  audio.addEventListener('playing', () => show('hear', waits()));
}

function leave() {
  leaves = true;
  return room?.leave();
}

/** @param {Room} entered */
function enter(entered) {
  room = entered;
  leaves = false;
  entered.addEventListener('message', (/** @type {any} */ { detail: { from, data } }) => {
    if (isCaption(data)) return;
    say(String(data?.text ?? data), 'other', entered.name && nameOf(from));
    if (document.activeElement !== at('text')) countUnread(true);
  });
  entered.addEventListener('ended', (/** @type {any} */ { detail }) => {
    note(`ended ${detail}`);
    if (room !== entered || search) return;
    if (!leaves && vm?.state !== 'closed') say(detail === 'lost' ? 'Your partner is lost' : 'Your partner has left', 'note');
    idle();
  });
  keepAwake(true);
  if ('mediaSession' in navigator) {
    for (const [button, pressed] of /** @type {[any, () => void][]} */ ([['hangup', leave], ['togglemicrophone', mute]])) {
      try {
        navigator.mediaSession.setActionHandler(button, pressed);
      } catch {
        // A browser that knows no such button.
      }
    }
  }
}

/** The user's way into the room. @type {AbortController | null} */ let joins = null;

async function joinRoom() {
  if (joins) return;
  const { signal } = (joins = new AbortController());
  setProblem('');
  show('listen', false);
  try {
    const began = await session();
    if (!mayListen && began.microphone && !began.microphone.track) {
      setState('asking', 'Please allow it');
      await wished(began.microphone.open(chosen()), signal);
    }
    if (began.microphone) listenTo(began.microphone.stream);
    listDevices();
    // Who calls needs neither.
    const [{ captionRoom }, { showMembers }] = await Promise.all([import('./captions.js'), import('./members.js')]);
    const joined = await began.join(roomName, { signal });
    if (joined.peers.size >= LARGEST_ROOM) {
      await joined.leave();
      return failed({ code: 'room_full' });
    }
    enter(joined);
    setState('room', roomName);
    captionRoom(joined, began);
    showMembers(joined, hear, watch, showLine);
  } catch (error) {
    if (!signal.aborted) failed(error);
  } finally {
    if (joins?.signal === signal) joins = null;
  }
}

function mute() {
  if (!room) return;
  isMuted = !isMuted;
  room.mute(isMuted);
  at('mute').setAttribute('aria-pressed', String(isMuted));
}

/** @param {Event} [event] */
function press(event) {
  // The second half of a double click would take back what the first has done.
  if (event instanceof MouseEvent && event.detail > 1) return;
  const { state } = document.body.dataset;
  if (search || (joins && state === 'asking')) return stop();
  if (state === 'room') return leave();
  return roomName ? joinRoom() : talk(Boolean(room));
}

at('talk').addEventListener('click', press);
at('wishes').addEventListener('submit', (event) => {
  event.preventDefault();
  press();
});
at('mute').addEventListener('click', mute);
at('leave').addEventListener('click', leave);
at('listen').addEventListener('click', () => {
  mayListen = true;
  if (vm) vm.options.media = 'listen';
  press();
});
at('hear').addEventListener('click', () => {
  show('hear', false);
  for (const peer of room?.peers.values() ?? []) hear(peer, voices.get(peer) ?? remote);
});
watch(remote);
at('block').addEventListener('click', async () => {
  leaves = true;
  if (!room) return;
  await room.block(/** @type {Call} */ (room).peer).catch((error) => {
    leaves = false;
    failed(error);
  });
});
at('report').addEventListener('click', () => {
  if (room) askAbout(room, /** @type {Call} */ (room).peer);
});

at('say').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = box('text').value.trim();
  if (!text || !room) return;
  const line = say(text, 'own');
  // A chat without this page knows plain text, too.
  room.send(text).catch(() => {
    line.classList.add('lost');
    line.append(' (not sent)');
  });
  box('text').value = '';
});
at('text').addEventListener('focus', () => countUnread(false));

listenForKeys({ m: mute, n: () => room && !room.name && !search && talk(true) });

at('copy').addEventListener('click', async () => {
  const link = location.origin + location.pathname;
  try {
    await navigator.clipboard.writeText(link);
    at('copy').textContent = 'Copied';
  } catch {
    // An http page, or a browser that does not let it.
    setProblem(`The browser does not let this page copy. The link is ${link}`);
  }
});

offerDevices({
  begin: async () => (await session()).microphone,
  microphone: () => vm?.microphone,
  voices: () => [remote, ...voices.values()],
  failed,
});

const TRANSPORTS = { ws: 'WebSocket', sse: 'event stream', poll: 'polling' };
/** @type {number | undefined} */ let serverMs;

const awayWords = () => `Connection to the server lost, ${room ? 'the call goes on' : 'trying again'}`;

function showLine() {
  const parts = [];
  if (!vm || vm.state === 'closed') parts.push('Not connected');
  else if (vm.state === 'reconnecting') parts.push(awayWords());
  else if (vm.transport) parts.push(TRANSPORTS[vm.transport], ...(serverMs ? [`server ${Math.round(serverMs)} ms`] : []));
  const qualities = room ? [...room.peers.values()].map(({ quality }) => quality) : [];
  if (qualities[0]?.path) parts.push(qualities.some(({ path }) => path === 'relayed') ? 'relayed' : 'direct');
  if (qualities[0]?.rtt !== undefined) parts.push(`partner ${Math.round(qualities[0].rtt * 1000)} ms`);
  at('line').textContent = parts.join(' · ');
}

async function countHere() {
  const stats = await fetch('/stats').then((response) => response.json()).catch(() => null);
  if (stats) here = stats.connections;
}
/** @type {number | undefined} */ let here;

setInterval(async () => {
  if (search && waitingSince && document.body.dataset.state === 'waiting') {
    const seconds = Math.round((Date.now() - waitingSince) / 1000);
    at('detail').textContent = `${seconds} s${here ? `, ${here} ${here === 1 ? 'user is' : 'users are'} here` : ''}`;
    if (seconds % 5 === 0) countHere();
  }
  if (vm?.state === 'open' && !document.hidden) serverMs = await vm.ping().catch(() => undefined);
  showLine();
}, 1000);

let quiet = 0;
let tick = 0;

setInterval(() => {
  tick++;
  const own = isMuted ? 0 : ownLevel();
  // A microphone that works is never quite silent; another program has taken it, or it has a switch of its own.
  quiet = room && !isMuted && own === 0 && vm?.microphone?.track ? quiet + 1 : 0;
  if (quiet * TICK === QUIET) setProblem(NOTHING_HEARD);
  else if (own > 0 && at('problem').textContent === NOTHING_HEARD) setProblem('');
  if (!at('levels').hidden) {
    const other = room ? /** @type {Call} */ (room).peer?.level ?? 0 : 0;
    setMeter(/** @type {HTMLMeterElement} */ (at('own-level')), own);
    setMeter(/** @type {HTMLMeterElement} */ (at('other-level')), other);
    at('circle').style.setProperty('--level', String(other));
  } else if (room?.name) {
    // To ask a browser for the level of a user takes it a while, and here are many.
    if (tick % 3 === 0) showLevels(room.peers, own);
  } else at('circle').style.setProperty('--level', '0');
  if (/** @type {HTMLDetailsElement} */ (at('sound')).open) setMeter(/** @type {HTMLMeterElement} */ (at('test-level')), ownLevel());
}, TICK);

show('share', Boolean(roomName));
show('key-next', !roomName);
at('room-name').textContent = roomName;
show('debug', debugs);
idle();
