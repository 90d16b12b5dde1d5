/** Two ends of a call in one page, and the wire between them in the hands of the test: offers that cross, candidates that come early. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server, browser, hears, open, until } from './support.js';

/** Two peers of a page, `one` and `other`. The first makes the first offer, and does not give way; with `batch` both take lists of
 * candidates. Nothing arrives while `window.held` is a list. */
async function pair(t, batch = true) {
  const server = await Server.start(t);
  const page = await open(await browser(t), server.url);
  await page.click('#sound summary');
  await page.evaluate(async (batch) => {
    const { Peer } = await import('/client/peer.js');
    const { Microphone } = await import('/client/microphone.js');
    const microphone = new Microphone();
    await microphone.open();
    window.held = [];
    window.answers = [];
    window.sides = {};
    window.deliver = ({ to, type, payload }) => window.sides[to].receive(type, JSON.parse(JSON.stringify(payload)));
    const side = (name, to) => {
      const isFirst = name === 'one';
      const send = (type, payload) => {
        const message = { to, type, payload };
        if (type === 'answer') window.answers.push(to);
        if (window.held) window.held.push(message);
        else window.deliver(message);
      };
      const peer = new Peer({ id: to, offer: isFirst, polite: !isFirst, batch }, microphone, {}, { send, interrupted() {}, ended() {} });
      const audio = document.createElement('audio');
      document.body.append(audio);
      peer.play(audio);
      peer.states = [];
      peer.pc.addEventListener('signalingstatechange', () => peer.states.push(peer.pc.signalingState));
      window.sides[name] = peer;
    };
    side('one', 'other');
    side('other', 'one');
  }, batch);
  return page;
}

const connected = (page) => until('both are connected', () => page.evaluate(() => Object.values(window.sides).every(({ state }) => state === 'connected')));

/** What is held arrives in this order of types, and from then on all at once. */
const release = (page, ...types) => page.evaluate((types) => {
  const held = window.held;
  window.held = null;
  const place = ({ type }) => types.indexOf(type);
  for (const message of held.toSorted((a, b) => place(a) - place(b))) window.deliver(message);
}, types);

test('two offers that cross: one side gives way, and both go on', async (t) => {
  const page = await pair(t);
  await release(page);
  await connected(page);
  const ways = () => page.evaluate(() => Object.values(window.sides).map(({ pc }) => /a=ice-ufrag:(\S+)/.exec(pc.localDescription.sdp)[1]));
  const before = await ways();
  await page.evaluate(() => {
    window.held = [];
    window.answers = [];
    for (const peer of Object.values(window.sides)) {
      peer.states = [];
      peer.restart();
    }
  });
  await until('both have made an offer', () => page.evaluate(() => new Set(window.held.filter(({ type }) => type === 'offer').map(({ to }) => to)).size === 2));
  await release(page, 'offer');
  await until('both agree', async () => (await ways()).every((way, i) => way !== before[i])
    && page.evaluate(() => Object.values(window.sides).every(({ pc }) => pc.signalingState === 'stable')));
  // The one goes on to wait for its answer. The other takes its offer back: it is stable before it takes that of the one.
  assert.deepEqual(await page.evaluate(() => [window.sides.one.states, window.sides.other.states]), [
    ['have-local-offer', 'stable'],
    ['have-local-offer', 'stable', 'have-remote-offer', 'stable'],
  ]);
  assert.deepEqual(await page.evaluate(() => window.answers), ['one'], 'and the one answers none');
  await connected(page);
  await hears(page);
});

for (const lost of ['offer', 'answer']) {
  test(`a first ${lost} that is lost is made again when both are told so`, async (t) => {
    const page = await pair(t);
    await until('there is an offer', () => page.evaluate(() => window.held.some(({ type }) => type === 'offer')));
    if (lost === 'answer') {
      await page.evaluate(() => {
        const [offer] = window.held.splice(0).filter(({ type }) => type === 'offer');
        window.deliver(offer);
      });
      await until('there is an answer', () => page.evaluate(() => window.held.some(({ type }) => type === 'answer')));
    }
    await page.evaluate(() => {
      window.held = null;
      for (const peer of Object.values(window.sides)) peer.restart();
    });
    await connected(page);
    await hears(page);
  });
}

for (const batch of [true, false]) {
  test(`candidates that come before the description they belong to, ${batch ? 'in lists' : 'one by one'}`, async (t) => {
    const page = await pair(t, batch);
    /** Both learn of no address but by candidates, and get these first. */
    const early = async (type) => {
      await until('all is gathered', () => page.evaluate((type) => window.sides[type === 'offer' ? 'one' : 'other'].pc.iceGatheringState === 'complete', type));
      await until(`candidates and ${type} are held`, () => page.evaluate((type) => [type, 'ice_candidate'].every((type) => window.held.some((message) => message.type === type)), type));
      await page.evaluate((type) => {
        const held = window.held;
        window.held = [];
        for (const message of held.filter((message) => message.type === 'ice_candidate')) window.deliver(message);
        const { to, payload } = held.find((message) => message.type === type);
        window.deliver({ to, type, payload: { type, sdp: payload.sdp.replace(/^a=candidate:.*\r\n/gm, '') } });
      }, type);
    };
    await early('offer');
    await early('answer');
    await connected(page);
    await hears(page);
  });
}
