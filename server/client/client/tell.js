// @ts-check
/** Sends an event to its listeners. @param {EventTarget} target @param {string} type @param {unknown} [detail] */
export const tell = (target, type, detail) => target.dispatchEvent(new CustomEvent(type, { detail }));
