// @ts-check
/** What failed, with a `code` for programs: one of the wire's, or one of the README's. */
export class VoicematchError extends Error {
  /** @param {string} code @param {string} [message] */
  constructor(code, message = code) {
    super(message);
    this.name = 'VoicematchError';
    this.code = code;
  }
}
