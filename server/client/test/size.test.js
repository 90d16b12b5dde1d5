/** What an app loads: the client with all that a chat needs, and for calls what they need beyond it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const KB = 1000;
const LATER = './client/calls.js';
const TRANSCRIBE = './client/transcribe.js';
/** The module's limits; and those of what calls need beyond it, which are not to grow unseen. */
const LIMITS = { 'client.js': { plain: 15 * KB, packed: 6 * KB }, [LATER]: { plain: 7.5 * KB, packed: 3 * KB }, [TRANSCRIBE]: { plain: 7.5 * KB, packed: 3 * KB } };

for (const [file, limit] of Object.entries(LIMITS)) {
  test(`${file} with all that it imports is less than ${limit.plain / KB} KB, ${limit.packed / KB} KB when it is packed`, async (t) => {
    const { outputFiles, metafile } = await build({
      absWorkingDir: fileURLToPath(new URL('..', import.meta.url)), entryPoints: [file], external: [LATER],
      bundle: true, minify: true, format: 'esm', outdir: 'none', write: false, metafile: true,
    });
    const [{ contents }] = outputFiles;
    const packed = gzipSync(contents, { level: 9 }).length;
    t.diagnostic(`${contents.length} bytes, packed ${packed}`);
    assert.ok(contents.length < limit.plain && packed < limit.packed);
    // Nothing is loaded later that is not counted.
    const later = Object.values(metafile.inputs).flatMap(({ imports }) => imports).filter(({ kind }) => kind === 'dynamic-import');
    assert.deepEqual(later.map(({ path }) => path), file === 'client.js' ? [LATER] : []);
  });
}
