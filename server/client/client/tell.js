// @ts-check
/** Sends an event to its listeners. @param {EventTarget} target @param {string} type @param {unknown} [detail] */
export const tell = (target, type, detail) => target.dispatchEvent(new CustomEvent(type, { detail }));

/** Ends with the promise, or before it with the reason of a signal. @template T @param {Promise<T>} promise
 * @param {AbortSignal} [signal] @returns {Promise<T>} */
export const wished = (promise, signal) => new Promise((resolve, reject) => {
  const abort = () => reject(signal?.reason);
  signal?.throwIfAborted();
  signal?.addEventListener('abort', abort);
  promise.then(resolve, reject).finally(() => signal?.removeEventListener('abort', abort));
});
