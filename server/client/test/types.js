/** What the types of the wire say of messages. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What tsc says of these messages. @param {string} type @param {string[]} messages @param {string} [file] */
export function complaints(type, messages, file = 'wire') {
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
