/** Two pages, one button: what users do with the page. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server, browser, hears, open, says, state, talking, until } from './support.js';

test('two press Talk, and hear each other', async (t) => {
  const server = await Server.start(t);
  const [one, other] = await talking(await browser(t), server.url);
  await hears(one);
  await hears(other);
  await says(one, other, 'hello <b>you</b>');
  await says(other, one, 'hello');
  assert.equal(await one.locator('#log b').count(), 0);
  await until('the line tells the way', async () => /WebSocket · server \d+ ms · direct · partner \d+ ms/.test(await one.textContent('#line')));
  await until('the partner is loud', async () => (await one.evaluate(() => document.getElementById('other-level').value)) > 0);
  assert.deepEqual([...one.complaints, ...other.complaints], []);
});

test('next, with buttons that are pressed twice', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const [one, other] = await talking(chromium, server.url);
  const third = await open(chromium, server.url);
  // A second click that is one of its own takes the first back at once, whatever is not ready yet.
  await third.click('#talk');
  await third.click('#talk');
  await state(third, 'idle');
  // A double click is one.
  await third.dblclick('#talk');
  await state(third, 'waiting');
  await one.press('body', 'n');
  await state(third, 'call');
  await state(one, 'call');
  await state(other, 'idle');
  assert.equal(await other.textContent('#log p.note'), 'Your partner has left');
  await hears(one);
  await says(third, one, 'you are new');
  assert.deepEqual([...one.complaints, ...other.complaints, ...third.complaints], []);
});

/** Counts how often the page asks for the microphone. */
const countsPrompts = () => {
  window.prompts = 0;
  const { mediaDevices } = navigator;
  const ask = mediaDevices.getUserMedia.bind(mediaDevices);
  mediaDevices.getUserMedia = (wanted) => {
    window.prompts++;
    return ask(wanted);
  };
};

test('whatever is pressed at once begins one session', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const pages = [
    ['', ['test', 'talk'], 'waiting'],
    ['/r/tea', ['talk', 'talk'], 'room'],
    ['/r/tea', ['test', 'talk', 'test'], 'room'],
  ];
  for (const [i, [path, buttons, becomes]] of pages.entries()) {
    const page = await open(chromium, server.url + path, {}, countsPrompts);
    await page.evaluate((buttons) => {
      for (const button of buttons) document.getElementById(button).click();
    }, buttons);
    await state(page, becomes);
    assert.deepEqual([await server.metric('sessions_total'), await page.evaluate(() => window.prompts)], [i + 1, 1], `${buttons}`);
    assert.deepEqual(page.complaints, []);
  }
});

test('two presses at once join a room once, and leave it once', async (t) => {
  const server = await Server.start(t);
  const page = await open(await browser(t), `${server.url}/r/tea`);
  const sent = [];
  page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => sent.push(JSON.parse(payload).type)));
  const rooms = () => sent.filter((type) => type.endsWith('_room'));
  // No double click, as by a key that is held down.
  const pressTwice = () => page.evaluate(() => [1, 2].forEach(() => document.getElementById('talk').click()));
  await pressTwice();
  await state(page, 'room');
  await pressTwice();
  await state(page, 'idle');
  // Each second the page asks how long the way to the server is: what it has sent before then is known.
  await until('it has gone on', () => sent.lastIndexOf('ping') > sent.indexOf('leave_room') && rooms().length > 1);
  assert.deepEqual(rooms(), ['join_room', 'leave_room']);
  assert.equal(await server.metric('sessions_total'), 1);
});

test('a tab that is closed leaves at once', async (t) => {
  const server = await Server.start(t);
  const [one, other] = await talking(await browser(t), server.url);
  const began = Date.now();
  await one.close({ runBeforeUnload: false });
  await state(other, 'idle');
  // Far below the time after which a lost connection would be noticed.
  assert.ok(Date.now() - began < 5000);
});

test('who waits can stop, and is matched with nobody', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const one = await open(chromium, server.url);
  await one.click('#talk');
  await state(one, 'waiting');
  await until('how long, and with how many, is shown', async () => /^[1-9]\d* s, 1 user is here$/.test(await one.textContent('#detail')));
  await one.click('#talk');
  await state(one, 'idle');
  const other = await open(chromium, server.url);
  await other.click('#talk');
  await state(other, 'waiting');
  await until('one waits', async () => (await server.metric('matchmaking_waiting_users{pool="anyone"}')) === 1);
});

test('interests that both have are said, and stay where they can be read', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const pages = [await open(chromium, server.url), await open(chromium, server.url)];
  for (const [i, page] of pages.entries()) {
    await page.getByText('Music', { exact: true }).click();
    await page.getByText(['Films', 'Games'][i], { exact: true }).click();
    await page.fill('#more', 'Sailing');
    await page.press('#more', 'Enter');
  }
  for (const page of pages) {
    await state(page, 'call');
    assert.equal(await page.textContent('#log p.note'), 'You both like music, sailing');
  }
});

test('a word of the user is as long as the server takes it, in whatever letters', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const pages = [await open(chromium, server.url), await open(chromium, server.url)];
  for (const page of pages) {
    await page.fill('#more', '\u0416'.repeat(33));
    assert.equal(await page.inputValue('#more'), '\u0416'.repeat(32), 'the user sees what is taken');
    await page.press('#more', 'Enter');
  }
  for (const page of pages) {
    await state(page, 'call');
    assert.equal(await page.textContent('#log p.note'), `You both like ${'\u0436'.repeat(32)}`);
  }
});

test('mute is heard on the other side', async (t) => {
  const server = await Server.start(t);
  const [one, other] = await talking(await browser(t), server.url);
  await hears(other);
  await one.press('body', 'm');
  assert.equal(await one.getAttribute('#mute', 'aria-pressed'), 'true');
  await until('it is quiet', () => other.evaluate(async () => {
    const energy = async () => [...(await window.peers[0].getStats()).values()].find(({ type }) => type === 'inbound-rtp').totalAudioEnergy;
    const before = await energy();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    return (await energy()) - before < 1e-6;
  }));
  await one.press('body', 'm');
  await hears(other);
});

test('whom one blocks one never meets again; what one reports is sent', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const [one, other] = await talking(chromium, server.url);
  await one.click('#report');
  await one.selectOption('#reason', 'spam');
  await one.fill('#words', 'buy this');
  await one.click('#report-dialog button.primary');
  await until('it is said', async () => (await one.textContent('#log')).includes('Your report is sent'));
  assert.equal(await server.metric('reports_total{reason="spam"}'), 1);
  // A report that is begun and not sent.
  await one.click('#report');
  await one.keyboard.press('Escape');
  // What is said after it has come after it.
  await says(one, other, 'it was nothing');
  assert.equal(await server.metric('reports_total{reason="spam"}'), 1);
  assert.equal(await one.getByText('Your report is sent').count(), 1);
  await one.click('#block');
  await state(one, 'idle');
  await state(other, 'idle');
  await one.click('#talk');
  await other.click('#talk');
  await state(one, 'waiting');
  await state(other, 'waiting');
  const third = await open(chromium, server.url);
  await third.click('#talk');
  await state(third, 'call');
});

test('a microphone that is refused strands nobody, and one can listen all the same', async (t) => {
  const server = await Server.start(t);
  const refusing = await browser(t, { microphone: false });
  const one = await open(refusing, server.url);
  await one.click('#talk');
  await until('it is explained', async () => (await one.textContent('#problem')).includes('Allow it'));
  await state(one, 'idle');
  assert.equal(await server.metric('matchmaking_waiting_users{pool="anyone"}'), 0);
  await one.click('#listen');
  await state(one, 'waiting');
  const other = await open(await browser(t), server.url);
  await other.click('#talk');
  await state(one, 'call');
  await state(other, 'call');
  await hears(one);
  await says(one, other, 'I only listen');
});

test('the microphone is tested before the first match', async (t) => {
  const server = await Server.start(t);
  const one = await open(await browser(t), server.url);
  await one.click('#sound summary');
  await one.click('#test');
  await until('it is heard', async () => (await one.textContent('#heard')) === 'You are heard.');
  assert.ok((await one.locator('#input option').count()) > 1);
  await state(one, 'idle');
});

test('nothing is loaded from elsewhere, and little from here', async (t) => {
  const server = await Server.start(t);
  const context = await (await browser(t)).newContext();
  const page = await context.newPage();
  const client = await context.newCDPSession(page);
  await client.send('Network.enable');
  const hosts = new Set();
  let bytes = 0;
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  client.on('Network.loadingFinished', ({ encodedDataLength }) => (bytes += encodedDataLength));
  await page.goto(server.url, { waitUntil: 'networkidle' });
  assert.deepEqual([...hosts].filter(Boolean), [new URL(server.url).host]);
  t.diagnostic(`${bytes} bytes`);
  assert.ok(bytes < 40 * 1024, `${bytes} bytes`);
});

test('the icon of the tab shows the state, and keys work while capitals are locked', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const one = await open(chromium, server.url);
  const icon = async () => decodeURIComponent(await one.getAttribute('link[rel=icon]', 'href'));
  assert.match(await icon(), /fill="none" stroke="#0a7d55"/);
  await one.click('#talk');
  await state(one, 'waiting');
  assert.match(await icon(), /stroke-dasharray/);
  const other = await open(chromium, server.url);
  await other.click('#talk');
  await state(one, 'call');
  assert.match(await icon(), /fill="#0a7d55"/);
  // As a keyboard with CapsLock says it.
  await one.press('body', 'M');
  assert.equal(await one.getAttribute('#mute', 'aria-pressed'), 'true');
  await one.press('body', 'N');
  await state(one, 'waiting');
});

test('who finds no way to a partner is told what may help', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const [hidden, other] = [await open(chromium, server.url), await open(chromium, server.url)];
  // This server has no relay.
  await hidden.click('#sound summary');
  await hidden.click('#relay');
  for (const page of [hidden, other]) await page.click('#talk');
  await until('it is said', async () => /You hide your address, which needs a TURN server/.test(await hidden.textContent('#problem')));
  await until('it is said', async () => /Another network may help/.test(await other.textContent('#problem')));
  await hidden.click('#leave');
  await hidden.click('#relay');
  for (const page of [hidden, other]) await page.click('#talk');
  for (const page of [hidden, other]) {
    await state(page, 'call');
    assert.ok(await page.isHidden('#problem'));
  }
});

test('a screen stays on for each call, by one lock, and none is left behind', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const locks = () => {
    window.locks = [];
    const request = navigator.wakeLock.request.bind(navigator.wakeLock);
    navigator.wakeLock.request = async (type) => {
      const lock = await request(type);
      window.locks.push(lock);
      return lock;
    };
  };
  const one = await open(chromium, server.url, {}, locks);
  const held = () => one.evaluate(() => window.locks.filter(({ released }) => !released).length);
  const others = [await open(chromium, server.url), await open(chromium, server.url)];
  await one.click('#talk');
  await others[0].click('#talk');
  await state(one, 'call');
  await until('it is on', async () => (await held()) === 1);
  // As a browser does with a tab that is hidden, and tells it when it is seen again.
  await one.evaluate(() => window.locks.at(-1).release());
  await one.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await until('it is on again', async () => (await held()) === 1);
  await others[1].click('#talk');
  await one.click('#talk');
  await state(one, 'call');
  await says(one, others[1], 'you are new');
  assert.equal(await held(), 1);
  await one.click('#leave');
  await until('none is left', async () => (await held()) === 0);
});

/** Has pressed Talk by itself, without a microphone: where there is one a browser plays before a click, too. */
const talksByItself = () => addEventListener('load', () => {
  const listen = document.getElementById('listen');
  new MutationObserver(() => listen.hidden || listen.click()).observe(listen, { attributes: true });
  document.getElementById('talk').click();
});

test('a page that may not play before a click: one button, and the partner is heard', async (t) => {
  const server = await Server.start(t);
  const listeners = await browser(t, { microphone: false, expected: /Blocked call to navigator.vibrate/ });
  const chromium = await browser(t);
  // Both the one who makes the offer and the one who waits for it.
  for (const isFirst of [true, false]) {
    const partner = await open(chromium, server.url);
    if (!isFirst) await partner.click('#talk');
    const page = await open(listeners, server.url, {}, talksByItself);
    if (isFirst) {
      await until('it waits', async () => (await server.metric('matchmaking_waiting_users{pool="anyone"}')) === 1);
      await partner.click('#talk');
    }
    // Whatever looks into a page counts as a touch of it.
    await state(partner, 'call');
    await state(page, 'call');
    assert.equal(await page.evaluate(() => document.getElementById('remote').currentTime), 0);
    await page.click('#hear');
    await hears(page);
    assert.equal(await page.isVisible('#hear'), false);
    await page.close();
    await state(partner, 'idle');
  }
});

test('a call that the system has paused goes on after a click', async (t) => {
  const server = await Server.start(t);
  const [one] = await talking(await browser(t), server.url);
  await hears(one);
  await one.evaluate(() => document.getElementById('remote').pause());
  await one.click('#hear');
  await hears(one);
  assert.equal(await one.isVisible('#hear'), false);
});

test('a microphone that gives nothing is said, until it gives something', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const one = await open(chromium, server.url, {}, () => {
    navigator.mediaDevices.getUserMedia = async () => {
      const context = new AudioContext();
      const tone = new OscillatorNode(context);
      const out = context.createMediaStreamDestination();
      window.gain = new GainNode(context, { gain: 0 });
      tone.connect(window.gain).connect(out);
      tone.start();
      return out.stream;
    };
  });
  const other = await open(chromium, server.url);
  for (const page of [one, other]) await page.click('#talk');
  await state(one, 'call');
  const problem = () => one.textContent('#problem');
  await until('it is said', async () => /^Nothing comes from your microphone/.test(await problem()));
  await one.evaluate(() => (window.gain.gain.value = 1));
  await until('it is over', async () => (await problem()) === '');
});

test('the buttons of a headset, of which a browser may know some only', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const one = await open(chromium, server.url, {}, () => {
    window.buttons = {};
    navigator.mediaSession.setActionHandler = (button, pressed) => {
      if (button === 'hangup') throw new TypeError('no such button');
      window.buttons[button] = pressed;
    };
  });
  const other = await open(chromium, server.url);
  for (const page of [one, other]) await page.click('#talk');
  await state(one, 'call');
  await one.evaluate(() => window.buttons.togglemicrophone());
  assert.equal(await one.getAttribute('#mute', 'aria-pressed'), 'true');
});

test('who wants little motion gets none', async (t) => {
  const server = await Server.start(t);
  const page = await open(await browser(t), server.url);
  await page.click('#talk');
  await state(page, 'waiting');
  const moves = () => page.evaluate(() => document.getAnimations().length);
  for (const [reducedMotion, count] of [['no-preference', 1], ['reduce', 0]]) {
    await page.emulateMedia({ reducedMotion });
    await until(`${count} move`, async () => (await moves()) === count);
  }
});
