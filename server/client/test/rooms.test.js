/** Who is in a room, also after its server has died: with a clock and a server of the test's own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SESSION, opened, session, settled } from './support.js';

const member = (peer_id, n, more = {}) => ({ peer_id, n, offer: true, polite: true, ...more });
const joined = (room_id, members, you = member('me', 9)) => ({ type: 'room_joined', room: 'tea', room_id, you, members, room_ticket: `ticket of ${room_id}` });

/** In a room with these, whose server then dies; another one takes its place. */
async function afterCrash(t, members) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { vm, wire } = await session(t);
  const joining = vm.join('tea');
  await settled();
  wire.answers('join_room', joined('r1', members));
  const room = await joining;
  const peers = Object.fromEntries([...room.peers]);
  const next = opened();
  wire.loses(4502, 'resume_refused');
  const other = await next;
  other.tells({ ...SESSION, session_id: 'me again', resume_token: 'U1' });
  assert.equal(other.last('rejoin').ticket, 'ticket of r1');
  const left = [];
  room.addEventListener('left', ({ detail }) => left.push(detail.member.id));
  return { vm, room, peers, wire: other, left, passes: (ms) => t.mock.timers.tick(ms) };
}

test('who does not come back within twenty seconds after a crash has left', async (t) => {
  const { room, peers, wire, left, passes } = await afterCrash(t, [member('a1', 0), member('b1', 1), member('c1', 2)]);
  wire.answers('rejoin', joined('r2', [member('a2', 0, { was: 'a1' })]));
  assert.deepEqual([...room.peers.keys()].sort(), ['a2', 'b1', 'c1']);
  passes(10_000);
  wire.tells({ type: 'peer_joined', room_id: 'r2', ...member('b2', 1, { was: 'b1' }) });
  passes(9999);
  assert.deepEqual(left, []);
  passes(1);
  assert.deepEqual(left, ['c1']);
  assert.deepEqual([...room.peers], [['a2', peers.a1], ['b2', peers.b1]]);
});

test('a second crash gives all their time anew, and the end of the room ends it', async (t) => {
  const { room, wire, left, passes } = await afterCrash(t, [member('a1', 0), member('b1', 1)]);
  wire.answers('rejoin', joined('r2', []));
  passes(15_000);
  const next = opened();
  wire.loses(4502, 'resume_refused');
  const third = await next;
  third.tells({ ...SESSION, session_id: 'me once more', resume_token: 'V1' });
  third.answers('rejoin', joined('r3', [member('b3', 1, { was: 'b2' })]));
  passes(19_000);
  assert.deepEqual(left, []);
  assert.deepEqual([...room.peers.keys()], ['a1', 'b3'], 'who was at the second server is known by the number');
  room.end('left');
  passes(20_000);
  assert.deepEqual(left, []);
});

test('who leaves while the room comes back is in none', async (t) => {
  const { vm, room, wire } = await afterCrash(t, [member('a1', 0)]);
  room.leave();
  wire.answers('rejoin', joined('r2', [member('a2', 0, { was: 'a1' })]));
  assert.equal(vm.room, null);
  assert.equal(wire.said.at(-1).type, 'leave_room');
});

test('a newcomer with the number of somebody else is somebody else', async (t) => {
  const { room, peers, wire } = await afterCrash(t, [member('a1', 0)]);
  wire.answers('rejoin', joined('r2', [member('new', 0)], member('me', 1)));
  assert.deepEqual([room.peers.size, room.peers.get('a1'), room.you.n], [2, peers.a1, 1]);
  assert.notEqual(room.peers.get('new'), peers.a1);
  wire.tells({ type: 'peer_joined', room_id: 'r2', ...member('a2', 2, { was: 'a1' }) });
  assert.equal(room.peers.get('a2'), peers.a1);
  assert.equal(peers.a1.member.n, 2);
});
