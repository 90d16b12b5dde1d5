// @ts-check
/** Tells whoever listens. @param {EventTarget} target @param {string} type @param {unknown} [detail] */
export const tell = (target, type, detail) => target.dispatchEvent(new CustomEvent(type, { detail }));
