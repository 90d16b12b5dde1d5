/** What the client tells the server of a call, and why there was none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Connection, prompts } from './media.js';
import { session, settled } from './support.js';

const CANDIDATE = { candidate: 'candidate:2 1 udp 1 192.0.2.2 1 typ host', sdpMid: '0' };
const offer = (sdp = 'v=0') => ({ type: 'offer', payload: { type: 'offer', sdp } });

/** What is reported of a call in which this happens. @param {import('node:test').TestContext} t
 * @param {(happens: {pc: Connection, passes: (ms: number) => void, says: (message: object) => Promise<void>}) => unknown} then
 * @param {object} [options] */
async function reported(t, then, options = { media: true, report: true }) {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  const { vm, wire } = await session(t, options);
  const searching = vm.find();
  await settled();
  if (options.media) prompts[0].allow();
  await settled();
  wire.answers('find_match', { type: 'match_found', room_id: 'r1', peer_id: 'a1', initiator: false, batch: true, shared_interests: [], waited_ms: 0 });
  const call = await searching;
  await then({
    pc: Connection.last,
    // Step by step: who finds the clock far on was asleep.
    passes: (ms) => {
      for (let passed = 0; passed < ms; passed += 100) t.mock.timers.tick(100);
    },
    says: (message) => {
      wire.tells({ ...message, from: 'a1' });
      return settled();
    },
  });
  call.leave();
  await settled();
  const reports = wire.said.filter(({ type }) => type === 'call_report');
  assert.ok(reports.length <= 1);
  t.mock.timers.reset();
  if (!reports.length) return 'nothing';
  const [{ outcome, reason }] = reports;
  return [outcome, reason];
}

test('a call that came about', async (t) => {
  assert.deepEqual(await reported(t, ({ pc, passes }) => {
    passes(100);
    pc.becomes('connected');
    pc.received.onunmute();
    passes(6000);
  }), ['connected', undefined]);
});

test('a call that is over before anything could be heard', async (t) => {
  assert.deepEqual(await reported(t, ({ pc, passes }) => {
    passes(10_000);
    pc.becomes('connected');
    passes(4000);
  }), ['connected', undefined]);
});

test('a call in which nothing is heard', async (t) => {
  assert.deepEqual(await reported(t, ({ pc, passes }) => {
    passes(10_000);
    pc.becomes('connected');
    passes(6000);
  }), ['failed', 'no_audio']);
});

test('a partner who has no microphone', async (t) => {
  assert.deepEqual(await reported(t, ({ pc, passes }) => {
    pc.becomes('connected');
    pc.direction = 'sendonly';
    passes(6000);
  }), ['connected', undefined]);
});

test('no address of this side', async (t) => {
  assert.deepEqual(await reported(t, async ({ passes, says }) => {
    await says(offer());
    await says({ type: 'ice_candidate', payload: [CANDIDATE] });
    passes(6000);
  }), ['failed', 'no_candidates']);
});

test('no address of the partner, who says so by an empty one', async (t) => {
  assert.deepEqual(await reported(t, async ({ pc, passes, says }) => {
    pc.finds();
    await says(offer());
    await says({ type: 'ice_candidate', payload: { candidate: '', sdpMid: '0' } });
    passes(6000);
  }), ['failed', 'no_candidates']);
});

for (const [how, hear] of Object.entries({
  'in a list': (says) => says({ type: 'ice_candidate', payload: [CANDIDATE] }),
  'one by one': (says) => says({ type: 'ice_candidate', payload: CANDIDATE }),
  'in the description': (says) => says(offer(`v=0\r\na=${CANDIDATE.candidate}\r\n`)),
})) {
  test(`no way between the addresses, which came ${how}`, async (t) => {
    assert.deepEqual(await reported(t, async ({ pc, passes, says }) => {
      pc.finds();
      await hear(says);
      passes(10_000);
      pc.becomes('failed');
    }), ['failed', 'ice_failed']);
  });
}

test('somebody leaves first', async (t) => {
  assert.deepEqual(await reported(t, ({ passes }) => passes(4000)), ['abandoned', 'left']);
});

test('who has not agreed reports nothing', async (t) => {
  assert.equal(await reported(t, ({ pc }) => pc.becomes('connected'), { media: true }), 'nothing');
});

test('who only chats reports nothing', async (t) => {
  assert.equal(await reported(t, () => {}, { media: false, report: true }), 'nothing');
});
