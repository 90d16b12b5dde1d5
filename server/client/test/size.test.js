/** What a page loads: the client, and for calls what they need beyond a chat. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

test('the client is less than 15 KB, and 6 KB when it is packed', async (t) => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('../client.js', import.meta.url))],
    bundle: true, minify: true, splitting: true, format: 'esm', outdir: 'none', write: false,
  });
  const sizes = outputFiles.map(({ path, contents }) => [path.split('/').at(-1), contents.length, gzipSync(contents, { level: 9 }).length]);
  for (const [name, plain, packed] of sizes) t.diagnostic(`${name}: ${plain} bytes, packed ${packed}`);
  const [, plain, packed] = sizes.find(([name]) => name === 'client.js');
  assert.ok(plain < 15_000, `${plain}`);
  assert.ok(packed < 6_000, `${packed}`);
});
