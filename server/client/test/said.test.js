/** What is said in a match whose server dies: it arrives once, or its sender is told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { another, matched, settled } from './support.js';

/** The server dies, and another one takes its place. @param {import('./support.js').Wire} wire */
const afterCrash = (wire) => another(wire, 4502, 'resume_refused');

/** The room is there again, and the partner tells how much they have heard. */
function back(wire, heard) {
  wire.tells({ type: 'rejoined', room_id: 'r2', peer_id: 'them again', room_ticket: 'ticket of r2' });
  wire.tells({ type: 'message', from: 'them again', payload: { 'voicematch.heard': heard } });
}

/** What was said to the partner over this wire. */
const said = (wire) => wire.said.filter(({ type, id }) => type === 'message' && id).map(({ payload }) => payload);

/** The server takes one message after the other. */
async function takes(wire, count) {
  for (let i = 0; i < count; i++) {
    await settled();
    wire.answers('message', { type: 'ack' });
  }
  await settled();
}

test('what was refused is not said behind the back of its sender', async (t) => {
  const { wire, call } = await matched(t);
  const results = Promise.allSettled(Array.from({ length: 70 }, (_, i) => call.send(i)));
  assert.equal(said(wire).length, 64);
  const other = await afterCrash(wire);
  back(other, 64);
  await settled();
  assert.deepEqual(said(other), []);
  assert.deepEqual((await results).map(({ status }) => status), [...Array(64).fill('fulfilled'), ...Array(6).fill('rejected')]);
  // And both count alike from then on.
  const more = call.send('more');
  await takes(other, 1);
  await more;
  const third = await afterCrash(other);
  back(third, 65);
  await settled();
  assert.deepEqual(said(third), []);
});

test('all that was said while the partner was away arrives, once and in order', async (t) => {
  const { wire, call } = await matched(t);
  const other = await afterCrash(wire);
  const sent = Promise.all(Array.from({ length: 100 }, (_, i) => call.send(i)));
  back(other, 0);
  await takes(other, 50);
  // What is said meanwhile waits its turn.
  const last = call.send('last');
  await takes(other, 51);
  await Promise.all([sent, last]);
  assert.deepEqual(said(other), [...Array(100).keys(), 'last']);
});

test('a second crash in the middle of that loses and doubles nothing', async (t) => {
  const { wire, call } = await matched(t);
  const other = await afterCrash(wire);
  const sent = Promise.all(Array.from({ length: 10 }, (_, i) => call.send(i)));
  back(other, 0);
  await takes(other, 4);
  assert.deepEqual(said(other), [0, 1, 2, 3, 4]);
  const third = await afterCrash(other);
  // The fifth had arrived, unlike the word that it had.
  back(third, 5);
  await takes(third, 5);
  await sent;
  assert.deepEqual(said(third), [5, 6, 7, 8, 9]);
});

test('what is too long for the server is refused here, and the session goes on', async (t) => {
  const { vm, wire, call } = await matched(t);
  // In bytes: each of these has two.
  await assert.rejects(call.send('\u00e4'.repeat(33_000)), { code: 'too_large' });
  assert.deepEqual(said(wire), []);
  const sent = call.send('\u00e4'.repeat(32_000));
  await takes(wire, 1);
  await sent;
  assert.equal(vm.state, 'open');
});
