/** Microphones that are busy, taken away, changed or pulled out: the user is told, and the partner goes on to hear. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server, browser, hears, open, says, state, talking, until } from './support.js';

/** The microphone that the call of a page sends, and whether it does. */
const sent = (page) => page.evaluate(() => {
  const { track } = window.peers[0].getSenders()[0];
  return track && { device: track.getSettings().deviceId, enabled: track.enabled, readyState: track.readyState };
});

/** How often offer and answer were agreed on. */
const counts = (page) => page.evaluate(() => {
  window.agreements = 0;
  window.peers[0].addEventListener('signalingstatechange', () => window.agreements++);
});

test('another microphone is chosen in the middle of a call: nothing is agreed on anew, and mute stays', async (t) => {
  const server = await Server.start(t);
  const [one, other] = await talking(await browser(t), server.url);
  await hears(other);
  await counts(one);
  const before = await sent(one);
  await one.click('#sound summary');
  const devices = await one.locator('#input option').evaluateAll((options) => options.map(({ value }) => value).filter(Boolean));
  const device = devices.find((device) => device !== before.device);
  await one.selectOption('#input', device);
  await until('it is sent', async () => (await sent(one))?.device === device);
  await hears(other);
  await one.click('#mute');
  await one.selectOption('#input', devices.find((other) => other !== device));
  await until('yet another one is sent', async () => ![device, undefined].includes((await sent(one))?.device));
  assert.deepEqual([(await sent(one)).enabled, await one.evaluate(() => window.agreements)], [false, 0]);
  await one.click('#mute');
  await hears(other);
  assert.deepEqual([...one.complaints, ...other.complaints], []);
});

test('a headset that is pulled out, of which nothing but the list of devices tells: the next one takes its place', async (t) => {
  const server = await Server.start(t);
  const [one, other] = await talking(await browser(t), server.url);
  await hears(other);
  await counts(one);
  await one.click('#sound summary');
  const device = await one.locator('#input option').nth(1).getAttribute('value');
  await one.selectOption('#input', device);
  await until('it is sent', async () => (await sent(one))?.device === device);
  // The browser's own devices cannot be pulled out.
  await one.evaluate((device) => {
    const { mediaDevices } = navigator;
    const list = mediaDevices.enumerateDevices.bind(mediaDevices);
    mediaDevices.enumerateDevices = async () => (await list()).filter(({ deviceId }) => deviceId !== device);
    mediaDevices.dispatchEvent(new Event('devicechange'));
  }, device);
  await until('another one is sent', async () => ![device, undefined].includes((await sent(one))?.device));
  await until('the page offers it no longer', async () => (await one.locator(`#input option[value="${device}"]`).count()) === 0);
  assert.equal(await one.evaluate(() => window.agreements), 0);
  await hears(other);
  assert.equal(await one.isVisible('#problem'), false);
  assert.deepEqual([...one.complaints, ...other.complaints], []);
});

test('a microphone whose permission is taken back in the middle of a call, and given again', async (t) => {
  const server = await Server.start(t);
  // Here the permission is the context's, and can be taken back.
  const chromium = await browser(t, { microphone: false });
  const one = await open(chromium, server.url, { permissions: ['microphone'] });
  const other = await open(await browser(t), server.url);
  for (const page of [one, other]) await page.click('#talk');
  for (const page of [one, other]) await state(page, 'call');
  await hears(other);
  /** Beside the address of the page. */
  const set = async (setting) => {
    const session = await chromium.newBrowserCDPSession();
    const { targetInfos } = await session.send('Target.getTargets');
    const { browserContextId } = targetInfos.find(({ url }) => url.startsWith(server.url));
    await session.send('Browser.setPermission', { permission: { name: 'microphone' }, setting, origin: server.url, browserContextId });
  };
  await set('denied');
  await until('it is said', async () => (await one.textContent('#problem')).startsWith('The microphone is gone'));
  assert.equal(await sent(one), null);
  await hears(one);
  await says(one, other, 'I can still write');
  await set('granted');
  await one.click('#sound summary');
  await one.selectOption('#input', await one.locator('#input option').last().getAttribute('value'));
  await until('it is sent', async () => (await sent(one))?.readyState === 'live');
  assert.equal(await one.isVisible('#problem'), false);
  await hears(other);
  assert.deepEqual([...one.complaints, ...other.complaints], []);
});

test('a microphone that another program uses: the user is told, nobody is stranded, and listening is offered', async (t) => {
  const server = await Server.start(t);
  const flags = ['--fail-audio-stream-creation'];
  const one = await open(await browser(t, { flags, expected: /AudioContext encountered an error/ }), server.url);
  await one.click('#talk');
  await until('it is said', async () => (await one.textContent('#problem')).startsWith('Another program uses the microphone'));
  await state(one, 'idle');
  // Later the browser complains of the same device, by which nothing can be played.
  assert.deepEqual(one.complaints, []);
  assert.equal(await server.metric('matchmaking_waiting_users{pool="anyone"}'), 0);
  await one.click('#listen');
  await state(one, 'waiting');
  const other = await open(await browser(t), server.url);
  await other.click('#talk');
  await state(one, 'call');
  // Nothing is played here, for the same reason; but it comes.
  await until('the sound of the partner comes', () => one.evaluate(async () => [...(await window.peers[0].getStats()).values()].find(({ type }) => type === 'inbound-rtp')?.bytesReceived > 0));
  await says(one, other, 'I only listen');
  assert.deepEqual(other.complaints, []);
});
