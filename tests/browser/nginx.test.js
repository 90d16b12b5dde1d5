/** Behind nginx with TLS and HTTP/2, as `deploy/proxies/nginx.conf` has it. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Server, atEnd, browser, freePort, hears, listens, says, state, tab, talking, until, user } from './support.js';

const example = readFileSync(new URL('../../deploy/proxies/nginx.conf', import.meta.url), 'utf8');

/** @param {string} [more] What stands before the location of all. @returns {Promise<string>} */
async function nginx(t, server, more = '') {
  const folder = mkdtempSync(join(tmpdir(), 'voicematch-nginx-'));
  const port = await freePort();
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=localhost',
    '-keyout', join(folder, 'certificate.key'), '-out', join(folder, 'certificate.pem'),
  ], { stdio: 'ignore' });
  writeFileSync(join(folder, 'nginx.conf'), `daemon off; error_log ${folder}/error.log; ${example
    .replace('server 127.0.0.1:8080', `server 127.0.0.1:${server.port}`)
    .replace('listen 443', `listen 127.0.0.1:${port}`)
    .replace('listen [::]:443', `listen [::1]:${port}`)
    .replace('location / {', `${more} location / {`)}`);
  const nginx = spawn('nginx', ['-p', folder, '-c', 'nginx.conf'], { stdio: 'ignore' });
  atEnd(t, () => {
    nginx.kill();
    rmSync(folder, { recursive: true, force: true });
  });
  await until('nginx listens', () => listens(port));
  return { url: `https://127.0.0.1:${port}`, log: () => readFileSync(join(folder, 'access.log'), 'utf8') };
}

/** How a page and what it has loaded came. */
const protocols = (page) => page.evaluate(() => [...new Set(performance.getEntries().map(({ nextHopProtocol }) => nextHopProtocol).filter(Boolean))]);

const CERTIFICATE = ['--ignore-certificate-errors'];

test('two talk through nginx, and no token is in its log', async (t) => {
  const server = await Server.start(t, ['--trusted-proxy', '127.0.0.1']);
  const proxy = await nginx(t, server);
  const [one, other] = await talking(await browser(t, { flags: CERTIFICATE }), proxy.url);
  await hears(one);
  await says(one, other, 'hello');
  await until('by WebSocket', async () => (await one.textContent('#line')).startsWith('WebSocket'));
  assert.deepEqual(await protocols(one), ['h2']);
  assert.deepEqual([...one.complaints, ...other.complaints], []);
  // A WebSocket is in the log when it is over.
  for (const page of [one, other]) await page.close();
  await until('both WebSockets are in the log', () => proxy.log().match(/"GET \/ws" 101/g)?.length === 2);
  assert.match(proxy.log(), /"GET \/stats" 200/);
  assert.doesNotMatch(proxy.log(), /token|resume[.=]/);
});

test('eight tabs of one browser talk by event streams', async (t) => {
  const server = await Server.start(t, ['--trusted-proxy', '127.0.0.1']);
  const proxy = await nginx(t, server, 'location = /ws { return 403; }');
  const context = await user(await browser(t, { flags: CERTIFICATE, expected: /WebSocket connection to .* 403/ }));
  const pages = [];
  for (let i = 0; i < 8; i++) {
    const page = await tab(context, proxy.url);
    await page.click('#talk');
    await state(page, i % 2 ? 'call' : 'waiting');
    pages.push(page);
  }
  for (const i of [0, 6]) await says(pages[i], pages[i + 1], `from tab ${i}`);
  await hears(pages[6]);
  // By HTTP/1.1 the seventh could not even load.
  for (const page of pages) assert.deepEqual(await protocols(page), ['h2']);
  await until('by event stream', async () => (await pages[7].textContent('#line')).startsWith('event stream'));
});
