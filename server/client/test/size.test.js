/** What an app loads: the client with all that a chat needs, and for calls what they need beyond it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const KB = 1000;
const LATER = './client/calls.js';
const TRANSCRIBE = './client/transcribe.js';
/** The module's limits; and those of what calls need beyond it, which are not to grow unseen. */
const LIMITS = { 'client.js': { plain: 15 * KB, packed: 6 * KB }, [LATER]: { plain: 7.5 * KB, packed: 3 * KB }, [TRANSCRIBE]: { plain: 7.5 * KB, packed: 3 * KB } };

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
/** Where the README says them, and how exactly: not all versions of Node.js pack alike. @type {Record<string, {says: RegExp, unit: number, packs: number}>} */
const SAID = {
  'client.js': { says: /Minified, the client is ([\d,]+) bytes, and packed ([\d,]+):/, unit: 1, packs: 20 },
  [LATER]: { says: /A call loads ([\d,]+) more \(([\d,]+) packed\)/, unit: 1, packs: 20 },
  [TRANSCRIBE]: { says: /it is imported: ([\d.]+) KB\n\(([\d.]+) KB packed\)/, unit: KB, packs: 50 },
};

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
    const { says, unit, packs } = SAID[file];
    const [, saidPlain = 0, saidPacked = 0] = says.exec(readme)?.map((number) => Number(number.replace(',', '')) * unit) ?? [];
    assert.ok(Math.abs(saidPlain - contents.length) < unit / 2, `README.md says ${saidPlain} bytes`);
    assert.ok(Math.abs(saidPacked - packed) <= packs, `README.md says ${saidPacked} bytes, packed`);
    // Nothing is loaded later that is not counted.
    const later = Object.values(metafile.inputs).flatMap(({ imports }) => imports).filter(({ kind }) => kind === 'dynamic-import');
    assert.deepEqual(later.map(({ path }) => path), file === 'client.js' ? [LATER] : []);
  });
}
