/** What users choose for their own sake holds: addresses that are hidden, reports that are not sent, a microphone that is muted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server, browser, open, state, talking, until } from './support.js';

/** What the present call of a page may use to find a way. */
const policy = (page) => page.evaluate(() => window.peers[0].getConfiguration().iceTransportPolicy);

test('an address that is hidden after the microphone test, or after a call, is hidden in the next one', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const one = await open(chromium, server.url);
  await one.click('#sound summary');
  await one.click('#test');
  await until('it is heard', async () => (await one.textContent('#heard')) === 'You are heard.');
  await one.click('#relay');
  await one.click('#talk');
  const other = await open(chromium, server.url);
  await other.click('#talk');
  // This server has no relay: they never hear each other.
  for (const page of [one, other]) await state(page, 'ringing');
  assert.deepEqual([await policy(one), await policy(other)], ['relay', 'all']);
  await one.click('#leave');
  await state(other, 'idle');
  await other.click('#sound summary');
  await other.click('#relay');
  for (const page of [one, other]) await page.click('#talk');
  for (const page of [one, other]) await state(page, 'ringing');
  assert.deepEqual([await policy(one), await policy(other)], ['relay', 'relay']);
});

test('who does not agree any more after a first call reports the next one no longer', async (t) => {
  const server = await Server.start(t);
  const pages = await talking(await browser(t), server.url);
  const counted = async () => (await server.metric('calls_total{outcome="connected",path="direct"}')) ?? 0;
  for (const page of pages) await until('the way is known', async () => (await page.textContent('#line')).includes('direct'));
  await pages[0].click('#leave');
  await until('both have reported', async () => (await counted()) === 2);
  await state(pages[1], 'idle');
  await pages[0].click('#sound summary');
  await pages[0].click('#consent');
  for (const page of pages) await page.click('#talk');
  for (const page of pages) await state(page, 'call');
  for (const page of pages) await until('the way is known', async () => (await page.textContent('#line')).includes('direct'));
  await pages[0].click('#leave');
  await state(pages[1], 'idle');
  await until('one has reported', async () => (await counted()) > 2);
  // What the page sent before this answer has been counted.
  await pages[0].click('#talk');
  await state(pages[0], 'waiting');
  await until('it waits', async () => (await server.metric('matchmaking_waiting_users{pool="anyone"}')) === 1);
  assert.equal(await counted(), 3);
});
