// @ts-check
/** What a call needs beyond a chat. */
export { Microphone } from './microphone.js';
export { Peer } from './peer.js';
