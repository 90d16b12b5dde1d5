/** What the page names in its first lines is what its modules import: all comes in one round trip after the page. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

test('every module of the page is preloaded, and nothing else', async () => {
  const { metafile } = await build({
    absWorkingDir: root, entryPoints: ['page/page.js'], bundle: true, format: 'esm', outdir: 'none', write: false, metafile: true,
  });
  // The page itself is named by the script; a chat alone is not what it is for.
  const imported = Object.keys(metafile.inputs).filter((name) => !['page/page.js', 'client/chat.js'].includes(name));
  const html = readFileSync(`${root}/page/index.html`, 'utf8');
  const preloaded = [...html.matchAll(/rel="modulepreload" href="\/([^"]*)"/g)].map(([, name]) => name);
  assert.deepEqual(preloaded.toSorted(), imported.toSorted());
});
