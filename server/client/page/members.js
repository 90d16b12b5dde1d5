// @ts-check
/** The members of a room with a name: a tile for each, and what plays them. */
import { askAbout } from './conduct.js';
import { toSpeaker, voices } from './sound.js';
import { at, nameOf, say, showTiles } from './view.js';

/** @typedef {import('../client.js').Peer} Peer */

/** @param {Peer} peer */
function removeVoice(peer) {
  voices.get(peer)?.remove();
  voices.delete(peer);
}

/** Shows and plays them until the room ends. @param {import('../client.js').Room} room
 * @param {(peer: Peer, audio: HTMLAudioElement) => void} hear @param {(audio: HTMLAudioElement) => void} watch @param {() => void} showLine */
export function showMembers(room, hear, watch, showLine) {
  const changed = () => {
    if (room.ended) return;
    showTiles(room.peers, (peer) => askAbout(room, peer));
    for (const peer of room.peers.values()) if (!voices.has(peer)) addVoice(peer);
    showLine();
  };
  /** @param {Peer} peer */
  const addVoice = (peer) => {
    const voice = /** @type {HTMLAudioElement} */ (at('remote').cloneNode());
    voice.removeAttribute('id');
    at('remote').after(voice);
    voices.set(peer, voice);
    toSpeaker(voice);
    watch(voice);
    hear(peer, voice);
    peer.addEventListener('state', changed);
    peer.addEventListener('quality', showLine);
  };
  room.addEventListener('joined', (/** @type {any} */ { detail }) => {
    say(`${nameOf(detail)} has joined`, 'note');
    changed();
  });
  room.addEventListener('left', (/** @type {any} */ { detail }) => {
    say(`${nameOf(detail)} has left`, 'note');
    removeVoice(detail);
    changed();
  });
  room.addEventListener('ended', () => [...voices.keys()].forEach(removeVoice));
  changed();
}
