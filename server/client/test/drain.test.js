/** A server that drains begins nothing more: what the user asks for is asked of the next one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FOUND, another, matched, opened, session, settled } from './support.js';

const REFUSED = { type: 'error', code: 'draining', message: 'connect again', temporary: true };

/** The next server greets the user, whose session this one has ended. @param {import('./support.js').Wire} wire */
async function atTheNext(wire) {
  const other = await another(wire, 4000, 'draining');
  await settled();
  return other;
}

const types = (wire) => wire.said.map(({ type }) => type).filter((type) => !/^(ping|pong)$/.test(type));

test('a search that a draining server refuses goes on at the next one', async (t) => {
  const { vm, wire } = await session(t);
  const finding = vm.find({ criteria: { language: 'tlh' } });
  await settled();
  wire.answers('find_match', REFUSED);
  const other = await atTheNext(wire);
  assert.deepEqual(types(other), ['find_match']);
  assert.deepEqual(other.last('find_match').criteria, { language: 'tlh' });
  other.answers('find_match', FOUND);
  assert.equal((await finding).id, 'r1');
});

test('a session that goes on at another node asks again there', async (t) => {
  const { vm, wire } = await session(t);
  const finding = vm.find();
  await settled();
  wire.answers('find_match', REFUSED);
  wire.tells({ type: 'ping', received: 1, next_ms: 1000 });
  const next = opened();
  wire.loses(1006);
  const other = await next;
  other.tells({ type: 'resumed', session_id: 'me', received: 1 });
  await settled();
  assert.deepEqual(types(other), ['find_match']);
  // The number of the refusal, which has arrived before.
  other.tells({ type: 'waiting' });
  other.answers('find_match', FOUND);
  assert.equal((await finding).id, 'r1');
});

test('a room whose name a draining server refuses is joined at the next one', async (t) => {
  const { vm, wire } = await session(t);
  const joining = vm.join('tea');
  await settled();
  wire.answers('join_room', REFUSED);
  const other = await atTheNext(wire);
  other.answers('join_room', { type: 'room_joined', room: 'tea', room_id: 'r2', you: { peer_id: 'me', n: 0 }, members: [], room_ticket: 't' });
  assert.equal((await joining).id, 'r2');
});

for (const how of ['find', 'leave']) {
  test(`the partner hears at the next server of a ${how} that this one did not take`, async (t) => {
    const { vm, wire, call } = await matched(t);
    const done = how === 'find' ? vm.find() : call.leave();
    done?.catch(() => {});
    await settled();
    const other = await atTheNext(wire);
    assert.equal(other.last('rejoin').ticket, 'ticket of r1');
    assert.deepEqual(types(other).slice(0, 2), ['rejoin', 'leave_room']);
    assert.equal(types(other).length, how === 'find' ? 3 : 2);
    vm.close();
  });
}

test('a partner who has left, too, is not looked for', async (t) => {
  const { vm, wire } = await matched(t);
  vm.find().catch(() => {});
  await settled();
  wire.tells({ type: 'peer_left', room_id: 'r1', peer_id: 'them', reason: 'next' });
  const other = await atTheNext(wire);
  assert.deepEqual(types(other), ['next']);
  vm.close();
});

test('a leave that was taken is not repeated', async (t) => {
  const { vm, wire } = await matched(t);
  const next = vm.find();
  next.catch(() => {});
  await settled();
  wire.answers('next', REFUSED);
  const other = await atTheNext(wire);
  assert.deepEqual(types(other), ['next']);
  vm.close();
});

for (const code of ['invalid_criteria', 'rate_limited', 'not_allowed']) {
  test(`who goes on with a search that is refused as ${code} leaves the room all the same`, async (t) => {
    const { vm, wire } = await matched(t);
    const next = vm.find({ criteria: { interests: [''] } });
    await settled();
    wire.answers('next', { type: 'error', code, message: 'no', temporary: false });
    await assert.rejects(next, { code });
    assert.deepEqual(types(wire).slice(-2), ['next', 'leave_room']);
    vm.find().catch(() => {});
    await settled();
    assert.equal(types(wire).at(-1), 'find_match');
    vm.close();
  });
}

test('a partner has what was said sent again once, and only after the room was lost', async (t) => {
  const { vm, wire, call } = await matched(t);
  const heard = () => wire.tells({ type: 'message', from: 'them', payload: { 'voicematch.heard': 0 } });
  const said = () => types(wire).filter((type) => type === 'message').length;
  call.send('hello').catch(() => {});
  heard();
  await settled();
  assert.equal(said(), 1);
  wire.tells({ type: 'rejoined', room_id: 'r2', peer_id: 'them again', room_ticket: 'ticket of r2' });
  for (let i = 0; i < 3; i++) wire.tells({ type: 'message', from: 'them again', payload: { 'voicematch.heard': 0 } });
  await settled();
  assert.equal(said(), 3, 'what this user had heard, and hello once more');
  vm.close();
});
