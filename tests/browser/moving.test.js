/** A network that is cut for ten seconds, and one whose address changes: between two namespaces of the test's own. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Server, browser, hears, open, says, state, until } from './support.js';

const ip = (...words) => execFileSync('ip', words, { stdio: 'pipe' });
const mayMakeNetworks = (() => {
  try {
    ip('netns', 'add', 'voicematch-probe');
    ip('netns', 'del', 'voicematch-probe');
    return true;
  } catch {
    return false;
  }
})();

/** Opens the page. Chromium gives up what it loads, or part of it, when the machine gets an address: those of a network that was just made come late. */
async function arrive(browser, url) {
  const page = await open(browser, 'about:blank');
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

/** A browser in a namespace, and one beside the server. */
async function apart(t, number) {
  const name = `voicematch-${process.pid}-${number}`;
  const [here, there] = [`vm${process.pid % 10000}h${number}`, `vm${process.pid % 10000}t${number}`];
  const net = `10.77.${number}`;
  const folder = mkdtempSync(join(tmpdir(), 'voicematch-netns-'));
  t.after(() => {
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
  const server = await Server.start(t, [], `${net}.1`);
  const flags = [`--unsafely-treat-insecure-origin-as-secure=${server.url}`];
  const one = await arrive(await browser(t, { flags, program }), server.url);
  const other = await arrive(await browser(t, { flags }), server.url);
  for (const page of [one, other]) await page.click('#talk');
  for (const page of [one, other]) await state(page, 'call');
  await hears(one);
  return { one, other, name, here, there, net };
}

/** How the test does without: it says so, and CI has what it needs. */
const options = { skip: mayMakeNetworks ? false : 'this user may make no network namespaces' };

test('a network that is cut for ten seconds', options, async (t) => {
  const { one, other, here } = await apart(t, 1);
  await says(one, other, 'before');
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
  assert.equal(await one.getAttribute('body', 'data-state'), 'call');
});
