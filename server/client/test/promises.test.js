/** Every promise ends, whatever the user, the app, the network and the partner do meanwhile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../client.js';
import { prompts } from './media.js';
import { SESSION, Wire, opened, session, settled } from './support.js';

const REASON = new Error('the user has gone to another page');
const because = (error) => error === REASON;
const code = (wanted) => (error) => error.code === wanted;
const match = { type: 'match_found', room_id: 'r1', peer_id: 'a1', initiator: true, batch: true, shared_interests: [], waited_ms: 0 };

const joined = { type: 'room_joined', room: 'tea', room_id: 'r1', members: [], you: { peer_id: 'me', n: 1 } };

/** How many sockets are opened meanwhile. */
async function sockets(meanwhile) {
  let count = 0;
  const counts = () => count++;
  Wire.events.on('opened', counts);
  await meanwhile();
  Wire.events.off('opened', counts);
  return count;
}

test('a session that is not wanted any more does not begin', async () => {
  const options = (signal, more) => ({ media: false, transports: ['ws'], signal, ...more });
  // Before it begins; while the module is loaded; while the app makes a token.
  assert.equal(await sockets(async () => {
    await assert.rejects(connect('http://x', options(AbortSignal.abort(REASON))), because);
    const loading = new AbortController();
    const connecting = connect('http://x', options(loading.signal));
    loading.abort(REASON);
    await assert.rejects(connecting, because);
    const asking = new AbortController();
    let give;
    const token = () => new Promise((resolve) => (give = resolve));
    const waiting = connect('http://x', options(asking.signal, { token }));
    await settled();
    asking.abort(REASON);
    await assert.rejects(waiting, because);
    give('a token that comes late');
    await settled();
  }), 0);
  // While the server is asked.
  const asked = new AbortController();
  const next = opened();
  const connecting = connect('http://x', options(asked.signal));
  const wire = await next;
  asked.abort(REASON);
  await assert.rejects(connecting, because);
  assert.ok(wire.isClosed);
  wire.tells(SESSION);
});

test('a token that cannot be had is said', async () => {
  const token = async () => {
    throw REASON;
  };
  await assert.rejects(connect('http://x', { media: false, transports: ['ws'], token }), because);
});

test('a signal ends the session later, too', async (t) => {
  const ends = new AbortController();
  const { vm, wire } = await session(t, { signal: ends.signal });
  const search = assert.rejects(vm.find(), code('closed'));
  ends.abort(REASON);
  await search;
  assert.deepEqual([vm.state, wire.isClosed, wire.last('leave').type], ['closed', true, 'leave']);
});

test('who does not answer whether the microphone may be used keeps nobody', async (t) => {
  const { vm, wire } = await session(t, { media: true });
  const user = new AbortController();
  const search = vm.find({ signal: user.signal });
  const joining = vm.join('tea');
  await settled();
  assert.equal(prompts.length, 1, 'the user is asked once');
  user.abort(REASON);
  await assert.rejects(search, because);
  assert.equal(wire.last('find_match'), undefined);
  const again = vm.find();
  vm.close();
  await assert.rejects(again, code('closed'));
  await assert.rejects(joining, code('closed'));
  prompts[0].allow();
  await settled();
  assert.equal(prompts[0].track.readyState, 'ended', 'the microphone is not on when nobody uses it');
  const asked = prompts.length;
  await assert.rejects(vm.microphone.open(), code('closed'));
  assert.equal(prompts.length, asked, 'nobody is asked any more');
});

test('a room that is not wanted any more is not joined, and is left if it was', async (t) => {
  const { vm, wire } = await session(t);
  await assert.rejects(vm.join('tea', { signal: AbortSignal.abort(REASON) }), because);
  assert.equal(wire.last('join_room'), undefined);
  const user = new AbortController();
  const joining = vm.join('tea', { signal: user.signal });
  await settled();
  user.abort(REASON);
  await assert.rejects(joining, because);
  assert.deepEqual(wire.said.map(({ type }) => type), ['join_room', 'leave_room']);
  // It had been joined already.
  wire.answers('join_room', joined);
  assert.equal(vm.room, null);
  const again = vm.join('tea');
  await settled();
  wire.answers('join_room', joined);
  const room = await again;
  // Who is in a room does not leave it for one that they cannot have.
  await assert.rejects(vm.join('coffee', { signal: new AbortController().signal }), code('already_in_room'));
  assert.equal(vm.room, room);
});

test('a microphone that is refused is asked for again', async (t) => {
  const { vm } = await session(t, { media: true });
  for (let i = 0; i < 2; i++) {
    const search = vm.find();
    await settled();
    prompts[0].refuse();
    await assert.rejects(search, code('microphone_refused'));
  }
});

test('what is said after the end of a match goes to nobody else', async (t) => {
  const { vm, wire } = await session(t);
  const searching = vm.find();
  await settled();
  wire.answers('find_match', match);
  const call = await searching;
  const next = call.next();
  await settled();
  wire.answers('next', { ...match, room_id: 'r2', peer_id: 'b1' });
  await next;
  await assert.rejects(call.send('to whom?'), code('next'));
  assert.equal(wire.last('message'), undefined);
  await settled();
  for await (const message of call.messages()) assert.fail(message);
});

test('of what is said while the partner is away the oldest is given up', async (t) => {
  const { vm, wire } = await session(t);
  const searching = vm.find();
  await settled();
  wire.answers('find_match', match);
  const call = await searching;
  wire.tells({ type: 'peer_left', room_id: 'r1', peer_id: 'a1', reason: 'draining' });
  const said = Array.from({ length: 257 }, (_, i) => call.send(i));
  await assert.rejects(said[0], code('too_much_unsent'));
  call.leave();
  const results = await Promise.allSettled(said);
  assert.ok(results.slice(1).every(({ reason }) => reason.code === 'left'));
});
