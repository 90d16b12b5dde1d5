/** The types of the wire are those of the protocol crate: each of its fixtures is one of them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const fixtures = join(root, '../protocol/fixtures/server');

/** What tsc says of these messages. */
function complaints(messages) {
  const folder = mkdtempSync(join(root, 'test/wire-'));
  try {
    const lines = messages.map((text, i) => `export const message${i}: ServerMessage = ${text.trim()};`);
    writeFileSync(join(folder, 'wire.ts'), `import type { ServerMessage } from '../../client/wire.js';\n${lines.join('\n')}\n`);
    execFileSync('npx', ['tsc', '--noEmit', '--strict', '--module', 'nodenext', join(folder, 'wire.ts')], { cwd: root, encoding: 'utf8' });
    return '';
  } catch (error) {
    return error.stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('every message of the server has a type', () => {
  const messages = readdirSync(fixtures).map((name) => readFileSync(join(fixtures, name), 'utf8'));
  assert.ok(messages.length > 20);
  assert.equal(complaints(messages), '');
});

test('a field that the types do not know is found', () => {
  assert.match(complaints(['{"type":"waiting","since":1}']), /since.* does not exist/);
  assert.match(complaints(['{"type":"nonsense"}']), /"nonsense"/);
});
