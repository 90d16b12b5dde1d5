/** The types of the wire, which a test of the protocol crate prints, fit that crate's fixtures. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const fixtures = join(root, '../protocol/fixtures');

/** What tsc says of these messages. @param {string} type @param {string[]} messages @param {string} [file] */
function complaints(type, messages, file = 'wire') {
  const folder = mkdtempSync(join(root, 'test/wire-'));
  try {
    const lines = messages.map((text, i) => `export const message${i}: ${type} = ${text.trim()};`);
    writeFileSync(join(folder, 'wire.ts'), `import type { ${type} } from '../../client/${file}.js';\n${lines.join('\n')}\n`);
    execFileSync('npx', ['tsc', '--noEmit', '--strict', '--module', 'nodenext', join(folder, 'wire.ts')], { cwd: root, encoding: 'utf8' });
    return '';
  } catch (error) {
    return error.stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

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
