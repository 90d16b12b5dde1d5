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
  // Few calls are transcribed, and a call has no members; the page itself is named by the script.
  const later = ['client/transcribe.js', 'page/captions.js', 'page/members.js'];
  /** @type {string[]} */
  const imported = [];
  const visit = (/** @type {string} */ name) => {
    for (const { path } of metafile.inputs[name].imports) {
      if (![...later, ...imported].includes(path)) {
        imported.push(path);
        visit(path);
      }
    }
  };
  visit('page/page.js');
  const html = readFileSync(`${root}/page/index.html`, 'utf8');
  const preloaded = [...html.matchAll(/rel="modulepreload" href="\/([^"]*)"/g)].map(([, name]) => name);
  assert.deepEqual(preloaded.toSorted(), imported.toSorted());
});
