/** What users choose for their own sake holds: addresses that are hidden, reports that are not sent, a microphone that is muted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server, Tunnel, browser, hears, open, says, state, talking, until } from './support.js';

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


/** The next microphones that the page asks for: none, or nobody ever answers. @param {import('playwright-core').Page} page @param {boolean} never */
const withoutMicrophone = (page, never = false) => page.evaluate((never) => {
  navigator.mediaDevices.getUserMedia = () => (never ? new Promise(() => {}) : Promise.reject(new DOMException('gone', 'NotFoundError')));
}, never);

/** The microphone that was there ends, as when it is pulled out. */
const pullOut = async (page) => {
  await withoutMicrophone(page);
  await page.evaluate(() => window.peers[0].getSenders()[0].track.dispatchEvent(new Event('ended')));
  await until('it is gone', async () => (await page.textContent('#problem')).startsWith('The microphone is gone'));
};

/** The page says that the user is in the call, and they can end it. */
async function stillIn(page, where = 'call') {
  assert.equal(await page.getAttribute('body', 'data-state'), where);
  for (const button of where === 'call' ? ['#mute', '#leave', '#block'] : ['#mute']) assert.ok(await page.isVisible(button), button);
}

test('what fails in a call does not hide the call: another microphone, its test, a block', async (t) => {
  const server = await Server.start(t);
  const tunnel = await Tunnel.start(t, server.port);
  const [one, other] = await talking(await browser(t), tunnel.url, server.url);
  await chooseGone(one);
  await stillIn(one);
  assert.ok(await one.isHidden('#listen'), 'the microphone that was there is still heard');
  await hears(other);
  // More is kept for a server that is away than there is room for.
  tunnel.cut('shut');
  await until('it is noticed', async () => (await one.textContent('#line')).includes('the call goes on'));
  await one.evaluate(() => {
    for (let i = 0; i < 64; i++) document.getElementById('text').value = `${i}`, document.getElementById('say').requestSubmit();
  });
  await one.click('#block');
  await until('it is said', async () => (await one.textContent('#problem')).startsWith('Too much waits to be sent'));
  await stillIn(one);
  tunnel.cut('through');
  await until('it is back', async () => (await one.textContent('#line')).startsWith('WebSocket'));
  await pullOut(one);
  await one.click('#test');
  await until('it is said', async () => (await one.textContent('#problem')).startsWith('There is no microphone'));
  await stillIn(one);
  await hears(one);
  await one.click('#leave');
  await state(other, 'idle');
});

test('Next without a microphone, and a Next that is taken back while the browser asks: the call goes on until the user leaves it', async (t) => {
  const server = await Server.start(t);
  const [one, other] = await talking(await browser(t), server.url);
  await pullOut(one);
  await one.click('#talk');
  await until('it is said', async () => (await one.textContent('#problem')).startsWith('There is no microphone'));
  await stillIn(one);
  await withoutMicrophone(one, true);
  await one.click('#talk');
  await state(one, 'asking');
  await one.click('#talk');
  await stillIn(one);
  await hears(one);
  await says(one, other, 'I am still here');
  // Who listens only needs none.
  await one.click('#listen');
  await state(one, 'waiting');
  await state(other, 'idle');
});

test('a Next that is taken back after it has ended the call leaves nothing behind', async (t) => {
  const server = await Server.start(t);
  const [one, other] = await talking(await browser(t), server.url);
  await one.click('#talk');
  await state(other, 'idle');
  await one.click('#talk');
  await state(one, 'idle');
  assert.ok(await one.isHidden('#leave'));
  await until('nobody waits', async () => (await server.metric('matchmaking_waiting_users{pool="anyone"}')) === 0);
});

/** Chooses a microphone that is not there. */
async function chooseGone(page) {
  await page.click('#sound summary');
  await page.evaluate(() => document.getElementById('input').add(new Option('One that is gone', 'gone')));
  await page.selectOption('#input', 'gone');
  await until('it is said', async () => (await page.textContent('#problem')).startsWith('There is no microphone'));
}

test('another microphone that fails while one waits: the page says that one still waits', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const page = await open(chromium, server.url);
  await page.click('#talk');
  await state(page, 'waiting');
  await chooseGone(page);
  assert.equal(await page.getAttribute('body', 'data-state'), 'waiting');
  await page.click('#talk');
  await state(page, 'idle');
  await until('nobody waits', async () => (await server.metric('matchmaking_waiting_users{pool="anyone"}')) === 0);
});

test('in a room, too: a microphone that fails does not hide that one is heard', async (t) => {
  const server = await Server.start(t);
  const page = await open(await browser(t), `${server.url}/r/tea`);
  await page.click('#talk');
  await state(page, 'room');
  await chooseGone(page);
  await stillIn(page, 'room');
});

test('who is muted stays so in the next session, as the button says', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const [one, other] = [await open(chromium, server.url), await open(chromium, server.url)];
  let session;
  one.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => {
    const { type, session_id } = JSON.parse(payload);
    if (type === 'session') session = session_id;
  }));
  const talk = async () => {
    for (const page of [one, other]) await page.click('#talk');
    for (const page of [one, other]) await state(page, 'call');
  };
  const muted = async () => [await one.getAttribute('#mute', 'aria-pressed'), await one.evaluate(() => !window.peers[0].getSenders()[0].track.enabled)];
  await talk();
  await one.click('#mute');
  assert.deepEqual(await muted(), ['true', true]);
  // As an operator ends it; or it was idle for long, or the browser kept the page while its user was elsewhere.
  const ended = await fetch(`${server.admin}/support/sessions/${session}/disconnect`, { method: 'POST' });
  assert.equal(ended.status, 200);
  for (const page of [one, other]) await state(page, 'idle');
  await talk();
  assert.deepEqual(await muted(), ['true', true]);
  await one.click('#mute');
  assert.deepEqual(await muted(), ['false', false]);
  await hears(other);
});
