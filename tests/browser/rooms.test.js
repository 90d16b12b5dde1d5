/** Rooms of a name: a link to share, and everybody hears everybody. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../server/client/client.js';
import { Server, atEnd, browser, heard, hears, open, state, tab, until, user } from './support.js';

/** The browser's work on the sound of a microphone takes the processor more than the calls of a room, and is none of ours. */
const asItIs = () => {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = () => ask({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
};

for (const size of [3, 6]) {
  test(`${size} in a room hear each other`, async (t) => {
    // Thirty ends of calls keep two processors busy.
    const patience = size * 10_000;
    const server = await Server.start(t);
    // As tabs of one window: a window for each would take as much as the calls do.
    const all = await user(await browser(t), {}, asItIs);
    const pages = [];
    for (let i = 0; i < size; i++) {
      const page = await tab(all, `${server.url}/r/tea`);
      await page.click('#talk');
      await state(page, 'room', patience);
      pages.push(page);
    }
    for (const page of pages) {
      await until('all are there', async () => (await page.locator('.tile[data-state=connected]').count()) === size, patience);
      await hears(page, patience);
      await until('it is shown how loud somebody is', () => page.locator('.tile meter').evaluateAll((all) => all.some(({ value }) => value > 0)), patience);
      assert.equal(await page.evaluate(() => window.peers.filter(({ connectionState }) => connectionState === 'connected').length), size - 1);
    }
    await pages[0].fill('#text', 'to all');
    await pages[0].press('#text', 'Enter');
    for (const page of pages.slice(1)) await until('it arrives', async () => (await page.textContent('#log')).includes('Guest 1: to all'), patience);
    await pages[0].click('#talk');
    await state(pages[0], 'idle');
    for (const page of pages.slice(1)) await until('one has left', async () => (await page.locator('.tile').count()) === size - 1);
    for (const page of pages) assert.deepEqual(page.complaints, []);
  });
}

// It takes a minute of two processors.
const skip = Boolean(process.env.WITHOUT_RELEASE);
test('eight in a room, of whom three speak and five listen: all hear those who speak', { skip }, async (t) => {
  const patience = 80_000;
  const server = await Server.start(t);
  const chromium = await browser(t);
  const speakers = await user(chromium, {}, asItIs);
  const listeners = await user(chromium, {}, () => {
    navigator.mediaDevices.getUserMedia = async () => {
      throw new DOMException('none', 'NotFoundError');
    };
  });
  const pages = [];
  for (let i = 0; i < 8; i++) {
    const page = await tab(i < 3 ? speakers : listeners, `${server.url}/r/tea`);
    await page.click('#talk');
    if (i >= 3) await page.click('#listen');
    await state(page, 'room', patience);
    pages.push(page);
  }
  for (const [i, page] of pages.entries()) {
    await until('all are there', async () => (await page.locator('.tile[data-state=connected]').count()) === 8, patience);
    assert.equal(await page.evaluate(() => window.peers.filter(({ connectionState }) => connectionState === 'connected').length), 7);
    const before = await heard(page);
    const speak = async () => (await heard(page)).filter((energy, of) => energy > before[of]).length;
    await until('those who speak are heard', async () => (await speak()) === (i < 3 ? 2 : 3), patience);
    assert.deepEqual(page.complaints, []);
  }
});

/** Three who are in a room, each in a page that shares nothing with the others. */
async function three(chromium, server) {
  const pages = [];
  for (let i = 0; i < 3; i++) {
    pages.push(await open(chromium, `${server.url}/r/tea`));
    await pages[i].click('#talk');
    await state(pages[i], 'room');
  }
  return pages;
}

test('a room comes back with a server that was killed, and all hear each other as before', async (t) => {
  const server = await Server.start(t);
  const pages = await three(await browser(t), server);
  for (const page of pages) await until('all are there', async () => (await page.locator('.tile[data-state=connected]').count()) === 3);
  await server.restart();
  for (const page of pages) await until('carried again', async () => (await page.textContent('#line')).startsWith('WebSocket'));
  await pages[0].fill('#text', 'again');
  await pages[0].press('#text', 'Enter');
  for (const page of pages.slice(1)) await until('it arrives', async () => (await page.textContent('#log')).includes('again'));
  for (const page of pages) {
    // A path that was interrupted meanwhile comes back by itself.
    await until('all are there', async () => (await page.locator('.tile[data-state=connected]').count()) === 3);
    await hears(page);
    assert.equal(await page.evaluate(() => window.peers.length), 2);
  }
});

test('a ninth is told that the room is full', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  for (let i = 0; i < 8; i++) {
    const vm = await connect(server.url, { media: false });
    atEnd(t, () => vm.close());
    await vm.join('tea');
  }
  const page = await open(chromium, `${server.url}/r/tea`);
  await page.click('#talk');
  await until('it is said', async () => (await page.textContent('#problem')) === 'The room is full. Ask somebody to leave it, or make another one.');
});

test('the speaker that was chosen plays those who come later, too', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const join = async () => {
    const page = await open(chromium, `${server.url}/r/tea`);
    await page.click('#talk');
    await state(page, 'room');
    return page;
  };
  const [one] = [await join(), await join()];
  await one.click('#sound summary');
  const speaker = await one.locator('#output option').last().getAttribute('value');
  assert.ok(speaker);
  await one.selectOption('#output', speaker);
  await join();
  await until('all are there', async () => (await one.locator('.tile[data-state=connected]').count()) === 3);
  const speakers = () => one.evaluate(() => [...document.querySelectorAll('audio')].map(({ sinkId }) => sinkId));
  await until('all play there', async () => (await speakers()).every((id) => id === speaker));
  assert.equal((await speakers()).length, 3, 'and the one of calls');
});

test('a member is reported and blocked: neither hears or reads the other any more, and the room goes on', async (t) => {
  const server = await Server.start(t);
  const pages = await three(await browser(t), server);
  const [one, rude, third] = pages;
  for (const page of pages) await until('all are there', async () => (await page.locator('.tile[data-state=connected]').count()) === 3);
  const button = one.getByRole('button', { name: 'Report or block Guest 2' });
  await button.click();
  assert.equal(await one.textContent('#report-title'), 'Report Guest 2');
  await one.click('#report-dialog button.primary');
  await until('it is said', async () => (await one.textContent('#log')).includes('Your report is sent'));
  assert.equal(await server.metric('reports_total{reason="abuse"}'), 1);
  await button.click();
  await one.click('#block-member');
  await until('it is said', async () => (await one.textContent('#log')).includes('You have blocked Guest 2'));
  assert.equal(await server.metric('reports_total{reason="abuse"}'), 1);
  await until('they are gone', async () => (await one.locator('.tile').count()) === 2);
  await until('they hear nothing', async () => (await rude.locator('.tile[data-state=connected]').count()) === 2);
  for (const [from, text] of [[rude, 'you cannot read this'], [third, 'but this']]) {
    await from.fill('#text', text);
    await from.press('#text', 'Enter');
    await until('the third knows it', async () => (await third.textContent('#log')).includes(text));
  }
  await until('it arrives', async () => (await one.textContent('#log')).includes('but this'));
  assert.ok(!(await one.textContent('#log')).includes('you cannot read this'));
  await hears(one);
  await hears(third);
});
