/** What MOBILE.md shows of the wire is what goes over it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { complaints } from './types.js';

const text = readFileSync(new URL('../MOBILE.md', import.meta.url), 'utf8');

/** The messages that stand behind such an arrow, each with the lines that go on with it. @param {'->' | '<-'} arrow */
const shown = (arrow) => [...text.matchAll(new RegExp(`^    ${arrow} (.*(?:\\n {8}.*)*)`, 'gm'))].map(([, message]) => message);

/** What stands in the text, for the client to send. */
const named = [...text.matchAll(/`(\{"type":.*?\})`/g)].map(([, message]) => message);

/** The numbers of these messages. @param {string[]} messages */
const numbers = (messages) => messages.flatMap((message) => JSON.parse(message).seq ?? []);

test('what the server says is a message of the server', () => {
  const messages = shown('<-');
  assert.ok(messages.length >= 9, `${messages.length}`);
  assert.equal(complaints('ServerMessage', messages), '');
  assert.deepEqual(numbers(messages), [1, 2, 3, 4, 5, 6]);
});

test('what an app says is a message of a client', () => {
  const messages = shown('->');
  assert.ok(messages.length >= 6 && named.length >= 4, `${messages.length} and ${named.length}`);
  assert.equal(complaints('ClientMessage', [...messages, ...named]), '');
  // The last is of another session, after `rejoin`.
  assert.deepEqual(numbers(messages), [1, 2, 3, 4, 2]);
});
