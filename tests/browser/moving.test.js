/** A network that is cut for ten seconds, one whose address changes, and one that is cut until the call has failed: between two namespaces
 * of the test's own. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Server, atEnd, breaksNetwork, browser, hears, open, says, state, until, way } from './support.js';

const ip = (...words) => execFileSync('ip', words, { stdio: 'pipe' });

/** Opens the page. Chromium gives up what it loads, or part of it, when the machine gets an address: those of a network that was just made come late. */
async function arrive(browser, url) {
  const page = await open(browser, 'about:blank');
  breaksNetwork();
  for (let tries = 1; ; tries++) {
    try {
      page.complaints.length = 0;
      await page.goto(url, { timeout: 8_000, waitUntil: 'networkidle' });
      assert.deepEqual(page.complaints, []);
      return page;
    } catch (error) {
      if (tries === 6) throw error;
    }
  }
}

/** A browser in a namespace, and one beside the server. @param {string[]} [flags] Of the server. */
async function apart(t, number, flags = []) {
  if (process.geteuid() !== 0) assert.fail('only root may make network namespaces: run this as root, or with WITHOUT_NETWORKS=1');
  const name = `voicematch-${process.pid}-${number}`;
  const [here, there] = [`vm${process.pid % 10000}h${number}`, `vm${process.pid % 10000}t${number}`];
  const net = `10.77.${number}`;
  const folder = mkdtempSync(join(tmpdir(), 'voicematch-netns-'));
  atEnd(t, () => {
    ip('netns', 'del', name);
    rmSync(folder, { recursive: true, force: true });
  });
  ip('netns', 'add', name);
  ip('link', 'add', here, 'type', 'veth', 'peer', 'name', there, 'netns', name);
  ip('addr', 'add', `${net}.1/24`, 'dev', here);
  ip('link', 'set', here, 'up');
  ip('-n', name, 'addr', 'add', `${net}.2/24`, 'dev', there);
  ip('-n', name, 'link', 'set', there, 'up');
  ip('-n', name, 'link', 'set', 'lo', 'up');
  const program = join(folder, 'chromium');
  writeFileSync(program, `#!/bin/sh\nexec ip netns exec ${name} /usr/bin/chromium "$@"\n`, { mode: 0o755 });
  const server = await Server.start(t, flags, `${net}.1`);
  const insecure = [`--unsafely-treat-insecure-origin-as-secure=${server.url}`];
  const one = await arrive(await browser(t, { flags: insecure, program }), server.url);
  const other = await arrive(await browser(t, { flags: insecure }), server.url);
  for (const page of [one, other]) await page.click('#talk');
  for (const page of [one, other]) await state(page, 'call');
  await hears(one);
  return { one, other, name, here, there, net };
}

/** Root may make networks, in CI too. Others say that they do without these tests: what is not tested does not look as if it were. */
const options = { skip: process.env.WITHOUT_NETWORKS ? 'WITHOUT_NETWORKS is set' : false };

test('a network that is cut for ten seconds', options, async (t) => {
  const { one, other, here } = await apart(t, 1);
  await says(one, other, 'before');
  breaksNetwork();
  ip('link', 'set', here, 'down');
  await one.fill('#text', 'while it is cut');
  await one.press('#text', 'Enter');
  await new Promise((resolve) => setTimeout(resolve, 10_000));
  ip('link', 'set', here, 'up');
  const back = Date.now();
  await until('what was said arrives', async () => (await other.textContent('#log')).includes('while it is cut'));
  t.diagnostic(`chat: ${Date.now() - back} ms after the network`);
  await hears(one);
  await hears(other);
  t.diagnostic(`sound: ${Date.now() - back} ms after the network`);
  await says(other, one, 'after');
  for (const page of [one, other]) assert.equal(await page.getAttribute('body', 'data-state'), 'call');
});

test('an address that changes in the middle of a call', options, async (t) => {
  const { one, other, name, there, net } = await apart(t, 2);
  const first = await way(one);
  breaksNetwork();
  ip('-n', name, 'addr', 'del', `${net}.2/24`, 'dev', there);
  ip('-n', name, 'addr', 'add', `${net}.3/24`, 'dev', there);
  const moved = Date.now();
  await says(other, one, 'are you there?');
  t.diagnostic(`chat: ${Date.now() - moved} ms after the change`);
  await says(one, other, 'yes');
  const energy = (page) => page.evaluate(async () => [...(await window.peers[0].getStats()).values()].find(({ type }) => type === 'inbound-rtp').totalAudioEnergy);
  const before = await energy(other);
  await until('sound arrives', async () => (await energy(other)) > before);
  t.diagnostic(`sound: ${Date.now() - moved} ms after the change`);
  await hears(one);
  assert.notEqual(await way(one), first, 'a way from the new address');
  assert.equal(await one.getAttribute('body', 'data-state'), 'call');
});

test('a way that fails in a cut of 25 s is looked for anew, and the call goes on', options, async (t) => {
  const { one, other, here } = await apart(t, 3, ['--resume-window', '60s']);
  const pages = [one, other];
  const first = await Promise.all(pages.map(way));
  for (const page of pages) {
    await page.evaluate(() => {
      const [peer] = window.peers;
      peer.addEventListener('connectionstatechange', () => {
        if (peer.connectionState === 'failed') window.failedWay ??= /a=ice-ufrag:(\S+)/.exec(peer.localDescription.sdp)[1];
      });
    });
  }
  breaksNetwork();
  ip('link', 'set', here, 'down');
  const cut = Date.now();
  for (const page of pages) await page.waitForFunction(() => window.failedWay, null, { timeout: 60_000 });
  t.diagnostic(`failed after ${Date.now() - cut} ms`);
  await new Promise((resolve) => setTimeout(resolve, cut + 25_000 - Date.now()));
  ip('link', 'set', here, 'up');
  const back = Date.now();
  for (const [i, page] of pages.entries()) {
    await until('there is another way', async () => ![first[i], await page.evaluate(() => window.failedWay)].includes(await way(page)));
    await until('connected', () => page.evaluate(() => window.peers[0].connectionState === 'connected'));
    await hears(page);
    assert.equal(await page.evaluate(() => window.peers.length), 1, 'in the same call');
    assert.equal(await page.getAttribute('body', 'data-state'), 'call');
  }
  t.diagnostic(`sound: ${Date.now() - back} ms after the network`);
  await says(other, one, 'after');
});
