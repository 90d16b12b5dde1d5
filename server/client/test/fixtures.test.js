/** The types of the wire, which a test of the protocol crate prints, fit that crate's fixtures. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { complaints } from './types.js';

const fixtures = fileURLToPath(new URL('../../protocol/fixtures', import.meta.url));

for (const [type, folder, count, file] of [
  ['ServerMessage', 'server', 20], ['ClientMessage', 'client', 20],
  ['Said', 'transcribe/said', 7, 'transcribe-wire'], ['Told', 'transcribe/told', 13, 'transcribe-wire'],
]) {
  test(`every message in ${folder} is a ${type}`, () => {
    const path = join(fixtures, folder);
    const messages = readdirSync(path).map((name) => readFileSync(join(path, name), 'utf8'));
    assert.ok(messages.length >= count);
    assert.equal(complaints(type, messages, file), '');
    assert.match(complaints(type, ['{"type":"nonsense"}'], file), /"nonsense"/);
  });
}

test('a field that the types do not know is found', () => {
  assert.match(complaints('ServerMessage', ['{"type":"waiting","since":1}']), /since.* does not exist/);
  assert.match(complaints('ServerMessage', ['{"type":"nonsense"}']), /"nonsense"/);
  assert.match(complaints('ClientMessage', ['{"type":"report","to":"8899aabbccddeeff"}']), /'reason' is missing/);
});
