/** MOBILE.md's conversation, said to a server: what its client says word for word, and the server answers as it stands there. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { connect } from '../../server/client/client.js';
import { Server, atEnd, browser, open, until } from './support.js';

const text = readFileSync(new URL('../../server/client/MOBILE.md', import.meta.url), 'utf8');

/** Both sides' lines in their order, each with the lines that go on with it. */
const lines = [...text.matchAll(/^    (->|<-) (.*(?:\n {8}.*)*)/gm)].map(([, arrow, message]) => ({ isOwn: arrow === '->', message: JSON.parse(message) }));

/** The same with types in place of values; of lists the first. */
function shape(value) {
  if (Array.isArray(value)) return value.length ? [shape(value[0])] : [];
  if (value && typeof value === 'object') return Object.fromEntries(Object.keys(value).toSorted().map((key) => [key, shape(value[key])]));
  return typeof value;
}

/** An app, with the WebSocket of a browser. Each connection has its own messages. */
async function app(t, server) {
  const page = await open(await browser(t), server.url);
  return {
    /** @param {string[]} more Subprotocols. */
    connect: (more = []) => page.evaluate(async (protocols) => {
      window.socket?.close();
      window.came = [];
      window.closed = null;
      const socket = (window.socket = new WebSocket(`${location.origin.replace('http', 'ws')}/ws?resume=1`, protocols));
      const came = window.came;
      socket.onmessage = ({ data }) => came.push(JSON.parse(data));
      socket.onclose = ({ code, reason }) => (window.closed ??= { code, reason });
      await new Promise((resolve) => socket.addEventListener('open', resolve));
      return socket.protocol;
    }, ['voicematch.1', ...more]),
    send: (message) => page.evaluate((text) => window.socket.send(text), JSON.stringify(message)),
    /** The next message; of the pings none but one that is waited for, since they come when they will. */
    next: (type) => until(`${type} comes`, () => page.evaluate((type) => {
      const { came } = window;
      if (type !== 'ping') while (came[0]?.type === 'ping') came.shift();
      const at = type === 'ping' ? came.findIndex((message) => message.type === 'ping') : 0;
      return came.splice(at, 1)[0];
    }, type)),
  };
}

test('the conversation of MOBILE.md', async (t) => {
  const server = await Server.start(t);
  const own = await app(t, server);
  assert.equal(await own.connect(), 'voicematch.1');
  const partner = await connect(server.url, { media: false });
  atEnd(t, () => partner.close());
  const heard = [];
  /** What the partner does before the app hears this. @type {Record<string, () => unknown>} */
  const before = {
    match_found: async () => {
      const call = await partner.find();
      call.addEventListener('message', ({ detail }) => heard.push(detail.data));
    },
    offer: () => partner.room.wire.post({ type: 'offer', payload: { type: 'offer', sdp: 'v=0' } }),
    ice_candidate: () => partner.room.wire.post({ type: 'ice_candidate', payload: { candidate: 'candidate:2', sdpMid: '0', sdpMLineIndex: 0 } }),
    resumed: async () => {
      const told = partner.room.send('are you there?');
      await own.connect([`resume.${token}.${last}`]);
      await told;
    },
  };
  let token = '';
  let last = 0;
  let ticket = '';
  const types = [];
  for (const { isOwn, message } of lines) {
    if (isOwn && message.payload?.['voicematch.heard'] !== undefined) break;
    types.push(message.type);
    if (isOwn) {
      await own.send(message);
      continue;
    }
    await before[message.type]?.();
    const came = await own.next(message.type);
    assert.deepEqual(shape(came), shape(message), `${JSON.stringify(came)} for ${JSON.stringify(message)}`);
    // What stands for something else in each run is not compared; the numbers and what the client counts by are.
    for (const key of ['type', 'seq', 'id', 'received', 'after', 'replay', 'epoch', 'place', 'next_ms', 'resume_window_ms', 'heartbeat_ms', 'limits']) {
      assert.deepEqual(came[key], message[key], `${key} of ${message.type}`);
    }
    token = came.resume_token ?? token;
    last = came.seq ?? last;
    ticket = came.room_ticket ?? ticket;
  }
  assert.deepEqual([types[0], types.at(-1)], ['session', 'message'], 'all of it was said');
  assert.equal(types.length, 14);
  await until('the partner has heard it', () => heard.includes('hello'));
});
