/** Networks that refuse, hang, break and change: the conversation goes on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server, Tunnel, browser, hears, open, says, state, talking, until } from './support.js';

/** What carries the session, as the page shows it. */
const carriedBy = (page, words) => until(`carried by ${words}`, async () => (await page.textContent('#line')).startsWith(words));

/** How long the page says that the server is lost, and how late a timer of it was at the most, since the machine is busy, in milliseconds. */
async function lostFor(page, cut) {
  await page.evaluate(() => {
    let due = performance.now() + 50;
    window.late = 0;
    setInterval(() => {
      window.late = Math.max(window.late, performance.now() - due);
      due = performance.now() + 50;
    }, 50);
    const seen = (window.seen = []);
    new MutationObserver(() => seen.push([performance.now(), document.body.hasAttribute('data-away')]))
      .observe(document.body, { attributeFilter: ['data-away'] });
  });
  await cut();
  await until('it is back', () => page.evaluate(() => window.seen.length > 1 && !window.seen.at(-1)[1]));
  return page.evaluate(() => ({ took: window.seen.at(-1)[0] - window.seen[0][0], late: window.late }));
}

test('a connection that breaks is back within three seconds, and the call goes on', async (t) => {
  const server = await Server.start(t);
  const tunnel = await Tunnel.start(t, server.port);
  const [one, other] = await talking(await browser(t), tunnel.url, server.url);
  const { took, late } = await lostFor(one, () => tunnel.cut());
  t.diagnostic(`WebSocket: ${Math.round(took)} ms, of which a timer was late for ${Math.round(late)}`);
  assert.ok(took < 3000 + late, `${took} ms`);
  await carriedBy(one, 'WebSocket');
  await says(other, one, 'still there');
  await hears(one);
  assert.equal(await one.getAttribute('body', 'data-state'), 'call');
});

for (const [mode, words, most] of [
  ['no-websocket', 'event stream', 3000], ['hangs', 'event stream', 3000], ['silent', 'event stream', 3000], ['no-streams', 'polling', 3000],
  ['all-hang', 'polling', 3000],
]) {
  test(`where a network is ${mode}, the session goes on by ${words}, and back`, async (t) => {
    const server = await Server.start(t);
    const tunnel = await Tunnel.start(t, server.port);
    const [one, other] = await talking(await browser(t), tunnel.url, server.url);
    const { took, late } = await lostFor(one, () => tunnel.cut(mode));
    t.diagnostic(`${mode}: ${Math.round(took)} ms, of which a timer was late for ${Math.round(late)}`);
    assert.ok(took < most + late, `${took} ms`);
    for (let i = 0; i < 5; i++) {
      await says(other, one, `to you ${i}`);
      await says(one, other, `to the other ${i}`);
    }
    tunnel.mode = 'through';
    await carriedBy(one, 'WebSocket');
    await says(one, other, 'back again');
    for (const page of [one, other]) {
      const said = await page.locator('#log :is(p,li).other').allTextContents();
      assert.equal(new Set(said).size, said.length);
    }
    await hears(one);
  });
}

test('who never gets a WebSocket talks all the same', async (t) => {
  const server = await Server.start(t);
  for (const [mode, words] of [['no-websocket', 'event stream'], ['no-streams', 'polling']]) {
    const tunnel = await Tunnel.start(t, server.port);
    tunnel.mode = mode;
    const [one, other] = await talking(await browser(t), tunnel.url);
    await carriedBy(one, words);
    await says(one, other, 'hello');
    await says(other, one, 'hello you');
    await hears(one);
  }
});

test('the server is killed in the middle of a call: the call goes on, and the chat heals', async (t) => {
  const server = await Server.start(t);
  const pages = await talking(await browser(t), server.url);
  const [one, other] = pages;
  await says(one, other, 'before');
  server.kill();
  await until('it is noticed', async () => (await one.textContent('#line')).includes('the call goes on'));
  await hears(one);
  await one.fill('#text', 'while it is down');
  await one.press('#text', 'Enter');
  await server.restart();
  await until('it arrives', async () => (await other.textContent('#log')).includes('while it is down'));
  await says(other, one, 'after');
  await hears(one);
  await hears(other);
  for (const page of pages) {
    const said = await page.locator('#log :is(p,li).other').allTextContents();
    assert.equal(new Set(said).size, said.length);
    assert.equal(await page.locator('#log :is(p,li).lost').count(), 0);
    assert.equal(await page.getAttribute('body', 'data-state'), 'call');
    assert.equal(await page.evaluate(() => window.peers.length), 1);
  }
});

test('a partner who is cut off for long is gone, and one is told', async (t) => {
  const server = await Server.start(t, ['--resume-window', '2s']);
  const tunnel = await Tunnel.start(t, server.port);
  const [, other] = await talking(await browser(t), tunnel.url, server.url);
  tunnel.cut('shut');
  await state(other, 'idle');
  assert.match(await other.textContent('#log'), /Your partner is lost/);
});

test('what is said over WebSockets that break again and again, and while the server is killed, arrives once and in order', async (t) => {
  const server = await Server.start(t);
  const tunnel = await Tunnel.start(t, server.port);
  const chromium = await browser(t);
  const pages = [await open(chromium, tunnel.url), await open(chromium, server.url)];
  await Promise.all(pages.map((page) => page.evaluate(async () => {
    const { connect } = await import('/client.js');
    const vm = (window.vm = await connect(undefined, { media: false, transports: ['ws'] }));
    const call = (window.call = await vm.find());
    window.heard = [];
    window.goesOn = true;
    call.addEventListener('message', ({ detail }) => window.heard.push(detail.data));
    window.counts = (async () => {
      let number = 0;
      const sent = [];
      while (window.goesOn) {
        sent.push(call.send(number++));
        await new Promise((resolve) => setTimeout(resolve, 25));
        // As an app would: no more than can wait.
        if (number % 32 === 0) await Promise.all(sent);
      }
      await Promise.all(sent);
      return number;
    })();
  })));
  for (let i = 0; i < 10; i++) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    tunnel.cut();
  }
  await server.restart();
  for (const page of pages) await until('it is there again', () => page.evaluate(() => window.vm.state === 'open'));
  const counts = await Promise.all(pages.map((page) => page.evaluate(() => {
    window.goesOn = false;
    return window.counts;
  })));
  for (const [i, page] of pages.entries()) {
    const said = counts[1 - i];
    await until('all is heard', () => page.evaluate((said) => window.heard.length >= said, said));
    assert.deepEqual(await page.evaluate(() => window.heard), [...Array(said).keys()]);
    assert.equal(await page.evaluate(() => window.call.ended), '');
  }
  t.diagnostic(`${counts[0] + counts[1]} messages`);
});
