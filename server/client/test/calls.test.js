/** Calls whose browser fails, or that are over. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../client.js';
import { Connection, prompts } from './media.js';
import { session, settled } from './support.js';

test('what no connection can be made with is told before the first search', async (t) => {
  t.after(() => (globalThis.RTCPeerConnection = Connection));
  globalThis.RTCPeerConnection = class extends Connection {
    constructor({ iceServers }) {
      super();
      if (iceServers?.[0].urls === 'nonsense') throw new SyntaxError('nonsense');
    }
  };
  await assert.rejects(connect('http://x', { transports: ['ws'], iceServers: [{ urls: 'nonsense' }] }), SyntaxError);
});

test('the next partner gets no address that was found for the former one', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  const { vm, wire } = await session(t, { media: true });
  const searching = vm.find();
  await settled();
  prompts[0].allow();
  await settled();
  wire.answers('find_match', { type: 'match_found', room_id: 'r1', peer_id: 'a1', initiator: false, batch: true, shared_interests: [], waited_ms: 0 });
  const call = await searching;
  Connection.last.finds();
  call.leave();
  t.mock.timers.tick(1000);
  assert.equal(wire.last('ice_candidate'), undefined);
});

test('who makes the first offer does not wait until the browser asks for it', async (t) => {
  const { vm, wire } = await session(t, { media: 'listen' });
  for (const initiator of [true, false]) {
    const searching = vm.find();
    await settled();
    const type = initiator ? 'find_match' : 'next';
    wire.answers(type, { type: 'match_found', room_id: type, peer_id: 'a1', initiator, batch: true, shared_interests: [], waited_ms: 0 });
    await searching;
    await settled();
    assert.equal(wire.said.filter(({ type }) => type === 'offer').length, 1);
  }
});

test('a microphone that is opened between the match and the offer is sent', async (t) => {
  const { vm, wire } = await session(t, { media: 'listen' });
  const searching = vm.find();
  await settled();
  wire.answers('find_match', { type: 'match_found', room_id: 'r1', peer_id: 'a1', initiator: false, batch: true, shared_interests: [], waited_ms: 0 });
  await searching;
  const opening = vm.microphone.open();
  await settled();
  prompts[0].allow();
  await opening;
  wire.tells({ type: 'offer', from: 'a1', payload: { type: 'offer', sdp: 'v=0' } });
  await settled();
  assert.equal(wire.last('answer').type, 'answer');
  assert.equal(Connection.last.track, prompts[0].track);
  assert.equal(Connection.last.transceiver.direction, 'sendrecv');
});
