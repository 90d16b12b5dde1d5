// @ts-check
/** Microphones and speakers: a test, and a choice. */
import { listenTo, ownLevel } from './levels.js';
import { at, setProblem, show } from './view.js';

/** @typedef {import('../client.js').Microphone} Microphone */

const input = /** @type {HTMLSelectElement} */ (at('input'));
const output = /** @type {HTMLSelectElement} */ (at('output'));

/** The microphone that the user has chosen; absent: the one that the system prefers. */
export const chosen = () => input.value || undefined;

/** What plays the members of a room, each its own element: what is played needs one in all browsers.
 * @type {Map<import('../client.js').Peer, HTMLAudioElement>} */
export const voices = new Map();

/** Plays on the speaker that the user has chosen. @param {HTMLAudioElement} audio */
export function toSpeaker(audio) {
  if ('setSinkId' in audio && audio.sinkId !== output.value) audio.setSinkId(output.value).catch(() => {});
}

export async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  for (const [select, kind] of /** @type {[HTMLSelectElement, string][]} */ ([[input, 'audioinput'], [output, 'audiooutput']])) {
    const options = devices.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== 'default');
    const kept = select.value;
    select.length = 1;
    for (const { label, deviceId } of options) select.add(new Option(label || 'A device', deviceId));
    select.value = options.some(({ deviceId }) => deviceId === kept) ? kept : '';
  }
  show('speaker', 'setSinkId' in HTMLMediaElement.prototype && output.childElementCount > 1);
}

/** @param {Microphone} microphone */
async function test(microphone) {
  if (!microphone.track) await microphone.open(chosen());
  listenTo(microphone.stream);
  listDevices();
  at('heard').textContent = 'Say something.';
  const until = Date.now() + 5000;
  while (Date.now() < until) {
    if (ownLevel() > 0.03) return void (at('heard').textContent = 'You are heard.');
    await new Promise(requestAnimationFrame);
  }
  at('heard').textContent = 'Nothing is heard. Is it the right microphone, and is it on?';
}

/**
 * @param {object} page
 * @param {() => Promise<Microphone | null>} page.begin The microphone, of a session that begins if there is none.
 * @param {() => Microphone | null | undefined} page.microphone If there is a session.
 * @param {() => Iterable<HTMLAudioElement>} page.voices What plays others.
 * @param {(error: any) => void} page.failed
 */
export function offerDevices({ begin, microphone, voices, failed }) {
  at('test').addEventListener('click', async () => {
    setProblem('');
    try {
      const microphone = await begin();
      if (microphone) await test(microphone);
    } catch (error) {
      failed(error);
    }
  });
  input.addEventListener('change', () => microphone()?.open(chosen()).catch(failed));
  output.addEventListener('change', () => {
    for (const voice of voices()) toSpeaker(voice);
  });
  navigator.mediaDevices?.addEventListener('devicechange', listDevices);
}
