/** A path that takes everything and gives nothing: no connection breaks, and yet the session is back in time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../server/client/client.js';
import { Server, Tunnel, atEnd, browser, open, says, state, talking, until } from './support.js';

/** How long a loss may go unnoticed, and how long the way back may take then; and what it takes to see either. */
const NOTICED = 10_000;
const BACK = 3_000;
const SEEN = 500;

/** How late a timer of this process was at the most, since the machine is busy, in milliseconds. */
function lateness(t) {
  let late = 0;
  let due = performance.now() + 50;
  const timer = setInterval(() => {
    late = Math.max(late, performance.now() - due);
    due = performance.now() + 50;
  }, 50);
  atEnd(t, () => clearInterval(timer));
  return () => late;
}

for (const kind of ['sse', 'poll']) {
  test(`a session on ${kind} notices a black hole within ten seconds, and is back in three when there is a way`, async (t) => {
    const server = await Server.start(t);
    const tunnel = await Tunnel.start(t, server.port);
    const sessions = [await connect(tunnel.url, { transports: [kind] }), await connect(server.url, { transports: ['sse'] })];
    for (const vm of sessions) atEnd(t, () => vm.close());
    const [one, other] = await Promise.all(sessions.map((vm) => vm.find()));
    const [vm] = sessions;
    const late = lateness(t);
    const heard = [];
    one.addEventListener('message', ({ detail }) => heard.push(detail.data));
    await other.send('before');
    await until('it arrives', () => heard.length === 1);
    const began = Date.now();
    tunnel.mode = 'hole';
    await until('it is noticed', () => vm.state === 'reconnecting');
    const noticed = Date.now() - began;
    const back = Date.now();
    tunnel.cut('through');
    await other.send('meanwhile');
    await until('it arrives', () => heard.length === 2);
    const took = Date.now() - back;
    t.diagnostic(`noticed after ${noticed} ms, back after ${took} ms`);
    assert.ok(noticed < NOTICED + SEEN + late(), `noticed after ${noticed} ms`);
    assert.ok(took < BACK + SEEN + late(), `back after ${took} ms`);
    assert.deepEqual(heard, ['before', 'meanwhile']);
    assert.equal(one.ended, '');
  });
}

test('a page in a call, which asks each second, notices it sooner', async (t) => {
  const server = await Server.start(t);
  const tunnel = await Tunnel.start(t, server.port);
  const [one, other] = await talking(await browser(t), tunnel.url, server.url);
  await says(other, one, 'before');
  const late = lateness(t);
  const isAway = () => one.evaluate(() => document.body.hasAttribute('data-away'));
  const began = Date.now();
  tunnel.mode = 'hole';
  await until('it is noticed', isAway);
  const noticed = Date.now() - began;
  const back = Date.now();
  tunnel.cut('through');
  await until('it is back', async () => !(await isAway()));
  const took = Date.now() - back;
  t.diagnostic(`noticed after ${noticed} ms, back after ${took} ms`);
  // A second to the next question, three for its answer, one and a half for the last one.
  assert.ok(noticed < 5500 + SEEN + late(), `noticed after ${noticed} ms`);
  assert.ok(took < BACK + SEEN + late(), `back after ${took} ms`);
  await says(other, one, 'after');
});

test('a page that may have been elsewhere asks at once whether the server is there', async (t) => {
  const server = await Server.start(t);
  const tunnel = await Tunnel.start(t, server.port);
  const page = await open(await browser(t), tunnel.url);
  await page.click('#talk');
  await state(page, 'waiting');
  const isAway = () => page.evaluate(() => document.body.hasAttribute('data-away'));
  for (const [target, type] of [['document', 'visibilitychange'], ['document', 'resume'], ['connection', 'change'], ['window', 'online']]) {
    // The page itself asks each second; a hidden one does not.
    await page.evaluate(() => Object.defineProperty(document, 'hidden', { configurable: true, value: true }));
    tunnel.mode = 'hole';
    await page.evaluate(([target, type]) => {
      Object.defineProperty(document, 'hidden', { configurable: true, value: type !== 'visibilitychange' });
      ({ document, window, connection: navigator.connection })[target].dispatchEvent(new Event(type));
    }, [target, type]);
    const began = Date.now();
    await until(`${type} is heeded`, isAway);
    const noticed = Date.now() - began;
    t.diagnostic(`${type}: noticed after ${noticed} ms`);
    // One that did not ask would notice it after ten seconds.
    assert.ok(noticed < 4000, `${type}: noticed after ${noticed} ms`);
    tunnel.cut('through');
    await until('it is back', async () => !(await isAway()));
  }
});
