// @ts-check
/** What the user does about others: reports and blocks. */
import { HELP, at, nameOf, say, setProblem, show } from './view.js';

/**
 * @typedef {import('../client.js').Room} Room
 * @typedef {import('../client.js').Peer} Peer
 */

const dialog = /** @type {HTMLDialogElement} */ (at('report-dialog'));
const reason = /** @type {HTMLSelectElement} */ (at('reason'));
const words = /** @type {HTMLTextAreaElement} */ (at('words'));

/** Asks what is wrong with a partner, or with a member of a room, who can be blocked there, too. @param {Room} room @param {Peer} peer */
export function askAbout(room, peer) {
  at('report-title').textContent = `Report ${room.name ? nameOf(peer) : 'your partner'}`;
  show('block-member', Boolean(room.name));
  // Escape leaves it as it is.
  dialog.returnValue = '';
  dialog.showModal();
  dialog.onclose = async () => {
    const text = words.value;
    words.value = '';
    try {
      if (dialog.returnValue === 'send') {
        await room.report(peer, /** @type {any} */ (reason.value), text);
        say('Your report is sent', 'note');
      }
      if (dialog.returnValue === 'block') await blockMember(room, peer);
    } catch (error) {
      const { code, message } = /** @type {import('../client.js').VoicematchError} */ (error);
      setProblem(HELP[code] ?? message);
    }
  };
}

/** From now on neither is heard or read by the other here. @param {Room} room @param {Peer} peer */
async function blockMember(room, peer) {
  await room.block(peer);
  say(`You have blocked ${nameOf(peer)}`, 'note');
  room.remove(peer.member.id);
}
