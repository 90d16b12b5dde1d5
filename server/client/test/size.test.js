/** What a page loads: the client, and for calls what they need beyond a chat. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

test('a chat loads less than 17 KB, 7 KB when it is packed, and a call less than 23 and 10', async (t) => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('../client.js', import.meta.url))],
    bundle: true, minify: true, splitting: true, format: 'esm', outdir: 'none', write: false,
  });
  const files = outputFiles.map(({ path, contents }) => ({ name: path.split('/').at(-1), plain: contents.length, packed: gzipSync(contents, { level: 9 }).length }));
  for (const { name, plain, packed } of files) t.diagnostic(`${name}: ${plain} bytes, packed ${packed}`);
  // What is loaded when it is wanted: one of two.
  const loaded = (/** @type {RegExp} */ left) => files.filter(({ name }) => !left.test(name ?? ''));
  const sum = (/** @type {typeof files} */ of, /** @type {'plain' | 'packed'} */ size) => of.reduce((all, file) => all + file[size], 0);
  const [chat, call] = [loaded(/^media/), loaded(/^chat/)];
  assert.ok(chat.length === 3 && call.length === 3, 'the parts have the names that are expected');
  assert.ok(sum(chat, 'plain') < 17_000 && sum(chat, 'packed') < 7000, `chat: ${sum(chat, 'plain')}, ${sum(chat, 'packed')}`);
  assert.ok(sum(call, 'plain') < 23_000 && sum(call, 'packed') < 10_000, `call: ${sum(call, 'plain')}, ${sum(call, 'packed')}`);
});
