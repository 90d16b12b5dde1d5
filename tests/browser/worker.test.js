/** The client module in a worker: chat, with a page and with another worker. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server, browser, open, state, tab, until, user } from './support.js';

/** Says in the chat what its page tells it, and tells its page what the others say. */
const TALKER = `
import { connect } from '/client.js';
const vm = await connect();
postMessage({ state: vm.state, microphone: vm.microphone });
const call = await vm.find();
postMessage({ found: true });
onmessage = async ({ data }) => {
  // Nothing tells a worker that its page is closed.
  if (data === 'close') return vm.close();
  await call.send(data);
  postMessage({ sent: data });
};
for await (const { data } of call.messages()) postMessage({ heard: data });
postMessage({ ended: call.ended });
`;

/** A page whose worker talks. */
async function talker(chromium, url) {
  const context = await user(chromium);
  // An app has a file of its own; the page's policy lets scripts come from its server only.
  await context.route('**/talker.js', (route) => route.fulfill({ contentType: 'text/javascript', body: TALKER }));
  const page = await tab(context, url);
  await page.evaluate(() => {
    window.told = [];
    window.worker = new Worker('/talker.js', { type: 'module' });
    window.worker.onmessage = ({ data }) => window.told.push(data);
    window.worker.onerror = ({ message }) => window.told.push({ error: message });
  });
  return page;
}

/** The worker has told this. */
const tells = (page, wanted) => until(JSON.stringify(wanted), async () => {
  const told = await page.evaluate(() => window.told);
  assert.ok(!told.some(({ error }) => error !== undefined), JSON.stringify(told));
  return told.some((one) => JSON.stringify(one) === JSON.stringify(wanted));
});

const say = (page, text) => page.evaluate((text) => window.worker.postMessage(text), text);

test('a chat of two workers, and of a worker and a page', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const pages = [await talker(chromium, server.url), await talker(chromium, server.url)];
  for (const page of pages) {
    await tells(page, { state: 'open', microphone: null });
    await tells(page, { found: true });
  }
  await say(pages[0], 'hello from a worker');
  await tells(pages[0], { sent: 'hello from a worker' });
  await tells(pages[1], { heard: 'hello from a worker' });
  await say(pages[1], 'hello you');
  await tells(pages[0], { heard: 'hello you' });
  await say(pages[1], 'close');
  for (const page of pages) await tells(page, { ended: 'closed' });

  const worker = await talker(chromium, server.url);
  const page = await open(chromium, server.url);
  await page.click('#talk');
  await tells(worker, { found: true });
  await say(worker, 'only text');
  await until('it arrives', async () => (await page.textContent('#log')).includes('only text'));
  await page.click('#leave');
  await tells(worker, { ended: 'left' });
  await state(page, 'idle');
});
