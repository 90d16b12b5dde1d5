/** What the page does beside the call: prompts that can be left, keys, focus, what is told to who does not see it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server, Tunnel, browser, open, says, state, talking, until } from './support.js';

/** Nobody ever answers whether the microphone may be used. */
const unanswered = () => {
  navigator.mediaDevices.getUserMedia = () => new Promise(() => {});
};
const focused = (page) => page.evaluate(() => document.activeElement?.id);

test('a prompt that nobody answers can be left, in a room as in a match, and listening is offered', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  for (const [path, idle, after] of [['/', 'Talk', 'waiting'], ['/r/tea', 'Join the room', 'room']]) {
    const page = await open(chromium, server.url + path, {}, unanswered);
    await page.click('#talk');
    await state(page, 'asking');
    assert.equal(await page.textContent('#talk'), 'Stop asking');
    await page.click('#talk');
    await state(page, 'idle');
    assert.equal(await page.textContent('#talk'), idle);
    await page.focus('#listen');
    await page.keyboard.press('Enter');
    await state(page, after);
    assert.equal(await focused(page), 'talk', 'the button that was pressed is gone');
    await page.close();
  }
});

test('letters are shortcuts once for each press, not in a dialog, and only if they are wanted', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const [page] = await talking(chromium, server.url);
  const muted = () => page.getAttribute('#mute', 'aria-pressed');
  await page.keyboard.down('m');
  await page.keyboard.down('m');
  await page.keyboard.up('m');
  assert.equal(await muted(), 'true', 'a key that is held');
  await page.click('#report');
  await page.focus('#report-dialog button.primary');
  await page.keyboard.press('m');
  await page.keyboard.press('n');
  assert.equal(await muted(), 'true', 'a dialog');
  await page.keyboard.press('Escape');
  await page.click('#sound summary');
  await page.click('#keys');
  await page.keyboard.press('m');
  assert.equal(await muted(), 'true', 'they are switched off');
  await page.reload();
  assert.equal(await page.isChecked('#keys'), false, 'and stay so');
});

test('a screen reader hears when the server is lost, when a message is not sent, and when somebody joins a room', async (t) => {
  const server = await Server.start(t);
  const tunnel = await Tunnel.start(t, server.port);
  const chromium = await browser(t);
  const page = await open(chromium, `${tunnel.url}/r/tea`);
  assert.ok(await page.isHidden('footer kbd:text("N")'), 'there is no next one in a room');
  await page.click('#talk');
  await state(page, 'room');
  const other = await open(chromium, `${server.url}/r/tea`);
  await other.click('#talk');
  await until('it is said', async () => (await page.textContent('#log')).includes('Guest 2 has joined'));
  tunnel.cut('shut');
  await until('the loss is told', async () => (await page.textContent('#status')) === 'Connection to the server lost, the call goes on');
  tunnel.cut('through');
  await until('the way back is told', async () => (await page.textContent('#status')) === 'Connected to the server again.');
  server.kill();
  await until('it is noticed', async () => (await page.textContent('#line')).includes('lost'));
  await page.fill('#text', 'Is anybody there?');
  await page.press('#text', 'Enter');
  await server.restart();
  await until('it is said by words', async () => (await page.textContent('#log p.own')) === 'Is anybody there? (not sent)');
});

test('what stops playing in a room goes on by a click, and levels move after the server was killed', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const pages = [await open(chromium, `${server.url}/r/tea`), await open(chromium, `${server.url}/r/tea`)];
  for (const page of pages) await page.click('#talk');
  const [page] = pages;
  for (const page of pages) await until('both are there', async () => (await page.locator('.tile[data-state=connected]').count()) === 2);
  await page.evaluate(() => [...document.querySelectorAll('audio')].find(({ srcObject }) => srcObject).pause());
  await page.waitForSelector('#hear', { state: 'visible' });
  await page.click('#hear');
  await page.waitForSelector('#hear', { state: 'hidden' });
  const carried = () => page.evaluate(() => !document.body.hasAttribute('data-away'));
  await server.restart();
  await until('it is noticed', async () => !(await carried()));
  await until('it is back', carried);
  for (const page of pages) await says(page, pages.find((other) => other !== page), 'again');
  await page.evaluate(() => (document.querySelectorAll('.tile meter')[1].value = 0));
  await until('it is shown how loud the other is', () => page.evaluate(() => document.querySelectorAll('.tile meter')[1].value > 0));
});

test('a session that ends keeps the microphone that was chosen, and the next partner begins with an empty chat', async (t) => {
  const server = await Server.start(t);
  const [one, other] = await talking(await browser(t), server.url);
  await one.click('#sound summary');
  const device = await one.locator('#input option').last().getAttribute('value');
  const sent = () => one.evaluate(() => window.peers[0].getSenders()[0].track?.getSettings().deviceId);
  assert.notEqual(await sent(), device);
  await one.selectOption('#input', device);
  await until('it is sent', async () => (await sent()) === device);
  await says(other, one, 'not read yet');
  await until('it is marked', async () => (await one.textContent('#unread')) === '1 new');
  // As when the browser puts the page to sleep.
  await one.evaluate(() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })));
  for (const page of [one, other]) await state(page, 'idle');
  assert.equal(await one.isVisible('#problem'), false, 'nothing is wrong with the microphone');
  for (const page of [one, other]) await page.click('#talk');
  for (const page of [one, other]) await state(page, 'call');
  assert.equal(await sent(), device);
  assert.equal(await one.isVisible('#unread'), false);
});
