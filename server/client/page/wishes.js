// @ts-check
/** What the user likes to talk about. */
import { at } from './view.js';

/** What the server takes as an interest, in bytes. */
const LONGEST = 64;

const more = /** @type {HTMLInputElement} */ (at('more'));

/** As much of the user's own word as the server takes. */
function ownInterest() {
  const isTooLong = () => new TextEncoder().encode(more.value.trim().toLowerCase()).length > LONGEST;
  while (isTooLong()) more.value = [...more.value.trim()].slice(0, -1).join('');
  return more.value.trim().toLowerCase();
}

// Where the user sees it. Who composes a letter has not written it yet.
more.addEventListener('input', (event) => /** @type {InputEvent} */ (event).isComposing || ownInterest());

/** @returns {import('../client.js').Criteria | undefined} */
export function criteria() {
  const chosen = [...document.querySelectorAll('[name=interest]:checked')].map((input) => /** @type {HTMLInputElement} */ (input).value);
  const own = ownInterest();
  const interests = own ? [...chosen, own] : chosen;
  return interests.length ? { interests } : undefined;
}
