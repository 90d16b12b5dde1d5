// @ts-check
/** What a chat needs in the place of calls. */

/** Another user, who is not heard. */
export class Peer extends EventTarget {
  remote = null;
  state = 'connected';
  level = 0;
  quality = {};
  record = {};

  /** @param {import('./peer.js').Member} member */
  constructor(member) {
    super();
    this.member = member;
  }

  async play() {}
  receive() {}
  restart() {}
  setIceServers() {}
  close() {}
}

/** There is none. */
export const Microphone = null;
