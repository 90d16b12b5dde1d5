// @ts-check
/** Audio that the server has not been sent yet: the newest is kept. */
export class Backlog {
  /** @type {Int16Array<ArrayBuffer>[]} */ #chunks = [];
  /** Chunks that were dropped, ever. */ dropped = 0;

  /** @param {number} limit In chunks. */
  constructor(limit) {
    this.limit = limit;
  }

  get length() {
    return this.#chunks.length;
  }

  /** @param {Int16Array<ArrayBuffer>} chunk @returns {boolean} Whether there was room. */
  push(chunk) {
    const isFull = this.#chunks.push(chunk) > this.limit;
    if (isFull) {
      this.#chunks.shift();
      this.dropped++;
    }
    return !isFull;
  }

  /** All of it, the oldest first. */
  take() {
    return this.#chunks.splice(0);
  }
}
