// @ts-check
/** The screen, which stays on while a call lasts. */

let wanted = false;
let asks = false;
/** @type {WakeLockSentinel | null} */ let lock = null;

/** @param {boolean} on Whether a call lasts. */
export function keepAwake(on) {
  wanted = on;
  if (on) return void take();
  lock?.release();
  lock = null;
}

/** Has one lock, and no more. */
async function take() {
  if (!wanted || asks || document.hidden || (lock && !lock.released)) return;
  asks = true;
  lock = await navigator.wakeLock?.request('screen').catch(() => null) ?? null;
  asks = false;
  // The call may have ended meanwhile.
  if (!wanted) keepAwake(false);
}

// Browsers take it from a tab that is hidden.
document.addEventListener('visibilitychange', take);
