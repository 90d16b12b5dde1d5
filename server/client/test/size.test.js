/** What an app loads: the client with all that a chat needs, and for calls what they need beyond it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const KB = 1024;
/** The module's limits; and those of what calls need beyond it, which are not to grow unseen. */
const CHAT = { plain: 15 * KB, packed: 6 * KB };
const CALLS = { plain: 7 * KB, packed: 3 * KB };

test('the client is less than 15 KB, 6 KB when it is packed; calls need 7 and 3 more', async (t) => {
  const { outputFiles, metafile } = await build({
    absWorkingDir: fileURLToPath(new URL('..', import.meta.url)), entryPoints: ['client.js'],
    bundle: true, minify: true, splitting: true, format: 'esm', outdir: 'none', write: false, metafile: true,
  });
  const sizes = { chat: { plain: 0, packed: 0 }, calls: { plain: 0, packed: 0 } };
  // Each file is packed alone, as a server sends it.
  for (const { path, contents } of outputFiles) {
    const name = path.split('/').at(-1) ?? '';
    const part = name.startsWith('calls-') ? sizes.calls : sizes.chat;
    const packed = gzipSync(contents, { level: 9 }).length;
    t.diagnostic(`${name}: ${contents.length} bytes, packed ${packed}`);
    part.plain += contents.length;
    part.packed += packed;
  }
  t.diagnostic(JSON.stringify(sizes));
  // Nothing of a chat hides in what only calls load, and nothing is loaded later that is not counted.
  const later = Object.values(metafile.inputs).flatMap(({ imports }) => imports).filter(({ kind }) => kind === 'dynamic-import');
  assert.deepEqual(later.map(({ path }) => path), ['client/calls.js']);
  for (const [part, limit] of /** @type {const} */ ([['chat', CHAT], ['calls', CALLS]])) {
    const { plain, packed } = sizes[part];
    assert.ok(plain > 0 && plain < limit.plain && packed < limit.packed, `${part}: ${plain} bytes, packed ${packed}`);
  }
});
