// @ts-check
/** Single letters as shortcuts. Who dictates to the browser, or presses keys by accident, turns them off. */
import { at } from './view.js';

const wanted = /** @type {HTMLInputElement} */ (at('keys'));
const KEPT = 'voicematch keys';

try {
  wanted.checked = localStorage.getItem(KEPT) !== 'off';
} catch {
  // A browser that keeps nothing.
}
wanted.addEventListener('change', () => {
  try {
    localStorage.setItem(KEPT, wanted.checked ? 'on' : 'off');
  } catch {
    // It holds as long as the page does.
  }
});

/** @param {Record<string, () => void>} keys What is done, by letter. */
export function listenForKeys(keys) {
  addEventListener('keydown', (event) => {
    const typing = event.target instanceof Element && event.target.matches('input:not([type=checkbox]), select, textarea');
    if (event.key === 'Escape' && event.target === at('text')) return at('text').blur();
    if (!wanted.checked || typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    // A dialog is about something else.
    if (!document.querySelector('dialog[open]')) keys[event.key.toLowerCase()]?.();
  });
}
