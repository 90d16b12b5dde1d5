/** Two servers with one database: a session is at one of them, and who comes to the other one is sent there. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { joinSession, viewSession } from '../../server/client/client/transcribe.js';
import { Server, atEnd, browser, freePort, open, state, transcribed, until } from './support.js';

/** Two servers of one database and one key. The first has the sessions it creates, and says that it is at `url`. */
async function nodes(t, url) {
  const folder = mkdtempSync(join(tmpdir(), 'voicematch-moved-'));
  atEnd(t, () => rmSync(folder, { recursive: true, force: true }));
  const key = join(folder, 'key');
  writeFileSync(key, 'k'.repeat(32), { mode: 0o600 });
  const flags = ['--transcribe', 'fake:?delay=10ms&partial=300ms&final=1s', '--database', `sqlite:${join(folder, 'shared.db')}`, '--transcribe-token-key-file', key];
  const second = await Server.start(t, flags);
  const own = url ? [] : ['--allowed-origin', second.url];
  const first = new Server();
  Object.assign(first, { state: join(folder, 'first'), host: '127.0.0.1' });
  const port = await freePort();
  first.flags = [...flags, ...own, '--public-url', url?.(second) ?? `http://127.0.0.1:${port}`];
  await first.run(port);
  atEnd(t, () => first.kill());
  return [first, second];
}

/** A host without a microphone, in a page of this server. */
async function listening(t, server, token) {
  const page = await open(await browser(t), server.url);
  await page.evaluate(async (token) => {
    const { Transcription } = await import('/client/transcribe.js');
    window.errors = [];
    window.own = new Transcription({ token });
    window.own.addEventListener('error', ({ detail }) => window.errors.push(detail.code));
  }, token);
  return page;
}

const stateOf = (page) => page.evaluate(() => window.own.state);
const errorsOf = (page) => page.evaluate(() => window.errors);

const lines = (page) => page.locator('#said p').allTextContents();

test('a call at a server that does not have the session: each page speaks where it is, and reads what is said', async (t) => {
  const [first, second] = await nodes(t);
  const token = await transcribed(first, 'tea');
  const chromium = await browser(t);
  const host = await open(chromium, `${second.url}/r/tea#host=${token}`);
  const other = await open(chromium, `${second.url}/r/tea`);
  for (const page of [host, other]) {
    await page.click('#talk');
    await state(page, 'room');
  }
  for (const [page, name] of [[host, 'You'], [host, 'Guest 2'], [other, 'You'], [other, 'Guest 1']]) {
    await until(`${name} is shown`, async () => (await lines(page)).some((line) => line.startsWith(`${name}: word`)));
  }
  assert.ok(await first.metric('transcribe_audio_chunks_total') > 0);
  assert.equal(await second.metric('transcribe_audio_chunks_total'), 0);
  assert.ok(await second.metric('transcribe_moved_total{result="moved"}') >= 4, 'two pages, over HTTP and over the socket');
  // The browser says so of each answer that is none.
  for (const page of [host, other]) assert.deepEqual(page.complaints.filter((text) => !text.includes('421')), []);
});

test('who is sent from server to server hears of it, and goes on trying', async (t) => {
  // It names the other one, which has the session no more than a stranger.
  const [first, second] = await nodes(t, ({ url }) => url);
  const token = await transcribed(first, 'tea');
  await assert.rejects(viewSession('tea', { url: second.url, token }), { code: 'moved' });
  await assert.rejects(joinSession('tea', { user: 'ann' }, { url: second.url }), { code: 'moved' });
  const before = await second.metric('transcribe_moved_total{result="moved"}');
  // Fetch asks once more by itself after 421 (its standard says so).
  assert.ok(before === 8 || before === 16, `three hops each, and then no more: ${before}`);
  const page = await listening(t, second, token);
  await until('it tries again', async () => (await errorsOf(page)).length > 1);
  assert.equal(await stateOf(page), 'connecting');
  await page.evaluate(() => window.own.close());
  const errors = await errorsOf(page);
  assert.deepEqual([...new Set(errors)], ['moved']);
  const more = (await second.metric('transcribe_moved_total{result="moved"}')) - before;
  assert.ok(more >= 4 * errors.length && more < 4 * (errors.length + 1), `${more} for ${errors.length} tries`);
});

test('a host whose server was killed is at the other one when the lease is over', async (t) => {
  const [first, second] = await nodes(t);
  const token = await transcribed(first, 'tea');
  const page = await listening(t, second, token);
  await until('it is open', async () => (await stateOf(page)) === 'open');
  first.kill();
  await until('it is lost', async () => (await stateOf(page)) === 'reconnecting');
  const began = Date.now();
  await page.waitForFunction(() => window.own.state === 'open', null, { timeout: 90_000 });
  t.diagnostic(`after ${Date.now() - began} ms`);
});
