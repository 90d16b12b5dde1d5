/** Calls that go through a relay alone: Debian's coturn, with the credentials that the server gives. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Server, browser, freePort, hears, listens, open, state, until } from './support.js';

test('two who hide their addresses talk through the relay', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'voicematch-turn-'));
  const secret = 'a-secret-of-thirty-two-bytes-or-more';
  writeFileSync(join(folder, 'secret'), `${secret}\n`, { mode: 0o600 });
  const port = await freePort();
  const turn = spawn('turnserver', [
    '-n', '--listening-ip=127.0.0.1', '--relay-ip=127.0.0.1', `--listening-port=${port}`, '--use-auth-secret', `--static-auth-secret=${secret}`,
    '--realm=test', '--no-tls', '--no-dtls', '--no-cli', '--fingerprint', '--allow-loopback-peers', '--log-file=stdout', `--pidfile=${folder}/pid`, `--userdb=${folder}/db`,
  ], { stdio: 'ignore' });
  t.after(() => {
    turn.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  await until('coturn listens', () => listens(port));
  const server = await Server.start(t, ['--turn-url', `turn:127.0.0.1:${port}`, '--turn-secret-file', join(folder, 'secret')]);
  const chromium = await browser(t);
  const pages = [await open(chromium, server.url), await open(chromium, server.url)];
  for (const page of pages) {
    await page.click('#sound summary');
    await page.click('#relay');
    await page.click('#talk');
  }
  for (const page of pages) {
    await state(page, 'call');
    await hears(page);
    await until('it is known', async () => (await page.textContent('#line')).includes('relayed'));
    const kinds = await page.evaluate(async () => [...(await window.peers[0].getStats()).values()].filter(({ type }) => type === 'local-candidate').map(({ candidateType }) => candidateType));
    assert.deepEqual([...new Set(kinds)], ['relay']);
  }
  await pages[0].click('#leave');
  await until('it is counted', async () => ((await server.metric('calls_total{outcome="connected",path="relayed"}')) ?? 0) >= 1);
});
