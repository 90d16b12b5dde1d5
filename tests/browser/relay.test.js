/** Calls that go through a relay alone: Debian's coturn, with the credentials that the server gives. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Relay, Server, browser, hears, open, state, until, way } from './support.js';

/** Two who hide their addresses, and talk through the relay. @param {string[]} [flags] Of the server. */
async function relayed(t, flags = []) {
  const relay = await Relay.start(t);
  const server = await Server.start(t, [...relay.flags, ...flags]);
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
  }
  return { server, pages };
}

test('two who hide their addresses talk through the relay', async (t) => {
  const { server, pages } = await relayed(t);
  for (const page of pages) {
    await until('it is known', async () => (await page.textContent('#line')).includes('relayed'));
    const kinds = await page.evaluate(async () => [...(await window.peers[0].getStats()).values()].filter(({ type }) => type === 'local-candidate').map(({ candidateType }) => candidateType));
    assert.deepEqual([...new Set(kinds)], ['relay']);
  }
  await pages[0].click('#leave');
  await until('it is counted', async () => ((await server.metric('calls_total{outcome="connected",path="relayed"}')) ?? 0) >= 1);
  assert.ok(await server.metric('call_candidates_total{local="relay",remote="relay"}') >= 1);
});

/** When the credentials end that the call of a page would use from now on, in seconds: their name begins with it. */
const ends = (page) => page.evaluate(() => Number(window.peers[0].getConfiguration().iceServers.at(-1).username.split(':')[0]));

test('a call has new credentials before the first ones end, and finds another way with them afterwards', async (t) => {
  const { pages } = await relayed(t, ['--turn-ttl', '12s']);
  const first = Math.max(...await Promise.all(pages.map(ends)));
  for (const page of pages) await until('they are renewed', async () => (await ends(page)) > first);
  assert.ok(Date.now() / 1000 < first, 'while the first ones are good');
  await until('the first ones have ended', () => Date.now() / 1000 > first + 1);
  const before = await Promise.all(pages.map(way));
  await pages[0].evaluate(() => window.peers[0].restartIce());
  for (const [i, page] of pages.entries()) {
    await until('there is another way', async () => (await way(page)) !== before[i]);
    // It carries the sound: what was there before would go on without.
    await until('it is the one in use', () => page.evaluate(async () => {
      const stats = await window.peers[0].getStats();
      const { selectedCandidatePairId } = [...stats.values()].find(({ type }) => type === 'transport');
      const { candidateType, usernameFragment } = stats.get(stats.get(selectedCandidatePairId)?.localCandidateId) ?? {};
      return candidateType === 'relay' && window.peers[0].localDescription.sdp.includes(`a=ice-ufrag:${usernameFragment}\r\n`);
    }));
    await hears(page);
    assert.deepEqual(page.complaints, []);
  }
});
