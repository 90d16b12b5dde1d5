/** Every state of the page, as all kinds of users see it: axe finds nothing, nothing sticks out, and there is a picture to look at. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Relay, Server, Tunnel, browser, open, says, state, tab, transcribed, until, user } from './support.js';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const pictures = join(fileURLToPath(new URL('../..', import.meta.url)), 'target/pictures');
mkdirSync(pictures, { recursive: true });

const WIDE = { width: 1280, height: 800 };
const NARROW = { width: 360, height: 740 };

/** What is looked at in each state. @type {[string, object, object][]} */
const LOOKS = [
  ['wide-light', WIDE, { colorScheme: 'light' }],
  ['wide-dark', WIDE, { colorScheme: 'dark' }],
  ['narrow-light', NARROW, { colorScheme: 'light' }],
  ['narrow-dark', NARROW, { colorScheme: 'dark' }],
  ['forced', WIDE, { colorScheme: 'dark', forcedColors: 'active' }],
  ['smallest', { width: 320, height: 640 }, { colorScheme: 'light' }],
];

async function look(page, name) {
  for (const [look, size, media] of LOOKS) {
    await page.setViewportSize(size);
    await page.emulateMedia({ forcedColors: 'none', ...media });
    await page.screenshot({ path: join(pictures, `${name}-${look}.png`), fullPage: true });
    const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(sideways, 0, `${name}, ${look}: ${sideways} px stick out`);
    // Nothing but the size tells the others apart.
    if (!['wide-light', 'wide-dark', 'forced', 'smallest'].includes(look)) continue;
    // With colours of the system's own contrast is the system's.
    const { violations } = await page.evaluate(
      (contrast) => window.axe.run({ resultTypes: ['violations'], rules: { 'color-contrast': { enabled: contrast } } }),
      look !== 'forced',
    );
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`), [], `${name}, ${look}`);
    if (look === 'smallest') await largeEnough(page, name);
  }
  await page.setViewportSize(WIDE);
}

/** Fingers are large: what is pressed has 44 px, and nothing that can be hit has less than 24 (WCAG 2.2, 2.5.8), with its label. */
async function largeEnough(page, name) {
  const small = await page.evaluate(() => [...document.querySelectorAll('button, select, summary, .chips span')]
    .filter((element) => element.checkVisibility())
    .map((element) => [element.textContent.trim().slice(0, 30), element.getBoundingClientRect()])
    .filter(([, { width, height }]) => width < 44 || height < 44)
    .map(([text, { width, height }]) => `${text}: ${width} x ${height}`));
  assert.deepEqual(small, [], name);
  const tiny = await page.evaluate(() => [...document.querySelectorAll('a, button, input, select, summary, textarea, [tabindex]')]
    .filter((element) => element.checkVisibility())
    .map((element) => {
      const boxes = [element, ...element.labels ?? []].map((part) => part.getBoundingClientRect());
      return [element.id || element.outerHTML, Math.max(...boxes.map(({ width }) => width)), Math.max(...boxes.map(({ height }) => height))];
    })
    .filter(([, width, height]) => width < 24 || height < 24));
  assert.deepEqual(tiny, [], name);
}

/** The page does not forbid the tool: it is put in before the policy holds. */
async function watched(chromium, url, options = {}, before = undefined) {
  const page = await open(chromium, url, { bypassCSP: true, reducedMotion: 'reduce', ...options }, before);
  await page.addScriptTag({ content: axe });
  return page;
}

test('before its script, or without', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t, { expected: /ERR_BLOCKED_BY_CLIENT/ });
  for (const [name, options] of [['00-blocked', {}], ['00-scriptless', { javaScriptEnabled: false }]]) {
    const users = await user(chromium, { bypassCSP: true, reducedMotion: 'reduce', ...options });
    await users.route(/\.js$/, (route) => route.abort('blockedbyclient'));
    const page = await tab(users, server.url);
    await page.waitForSelector('#scriptless', { state: 'visible' });
    assert.match(await page.textContent('#scriptless'), /needs JavaScript/);
    assert.ok(await page.isDisabled('#talk'), 'a button that does nothing is not offered');
    assert.ok(await page.isVisible('summary:has-text("Who gets what?")'));
    if (options.javaScriptEnabled === false) continue;
    const [paint] = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint').map(({ startTime }) => startTime));
    t.diagnostic(`first paint after ${Math.round(paint)} ms`);
    assert.ok(paint > 0, 'it is painted');
    await page.addScriptTag({ content: axe });
    await look(page, name);
  }
});

test('what passes quickly: the prompt, a partner who is not there yet, words that are not read yet', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  // Without a window Chromium refuses by itself soon. Here nobody ever answers.
  const asking = await watched(chromium, server.url, {}, () => {
    navigator.mediaDevices.getUserMedia = () => new Promise(() => {});
  });
  await asking.click('#talk');
  await state(asking, 'asking');
  await look(asking, '17-asking');
  await asking.close();
  const page = await watched(chromium, `${server.url}/?debug`);
  await page.getByText('Music', { exact: true }).click();
  await page.fill('#more', 'Sailing');
  for (const summary of await page.locator('summary').all()) await summary.click();
  await look(page, '18-interests-and-details');
  // Nobody can reach one who hides behind a relay that there is not.
  const hidden = await open(chromium, server.url);
  await hidden.getByText('Music', { exact: true }).click();
  await hidden.click('#sound summary');
  await hidden.click('#relay');
  for (const each of [page, hidden]) await each.click('#talk');
  await state(page, 'ringing');
  await look(page, '19-ringing-and-debug');
  await says(hidden, page, 'Can you hear me? My browser finds no way.');
  await until('it is marked', async () => (await page.textContent('#unread')) === '1 new');
  await page.waitForSelector('#problem', { state: 'visible' });
  await look(page, '20-unread-and-no-way');
  await page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = async () => {
      throw new DOMException('gone', 'NotFoundError');
    };
    window.peers[0].getSenders()[0].track.dispatchEvent(new Event('ended'));
  });
  await until('it is said', async () => (await page.textContent('#problem')).startsWith('The microphone is gone'));
  await look(page, '21-microphone-gone');
});

test('a way that is lost', async (t) => {
  const relay = await Relay.start(t);
  const server = await Server.start(t, relay.flags);
  const chromium = await browser(t);
  const page = await watched(chromium, server.url);
  const other = await open(chromium, server.url);
  for (const each of [page, other]) {
    await each.click('#sound summary');
    await each.click('#relay');
    await each.click('#talk');
  }
  for (const each of [page, other]) await state(each, 'call');
  // All of the call goes through it.
  relay.process.kill('SIGKILL');
  await until('it is noticed', async () => (await page.textContent('#detail')) === 'The connection is interrupted');
  assert.equal(await page.textContent('#status'), 'The connection is interrupted');
  await look(page, '24-interrupted');
});

test('a match, from the first look to the end', async (t) => {
  const server = await Server.start(t);
  const tunnel = await Tunnel.start(t, server.port);
  const chromium = await browser(t);
  const page = await watched(chromium, tunnel.url);
  await look(page, '01-idle');
  await page.click('#sound summary');
  await page.click('#test');
  await until('it is heard', async () => (await page.textContent('#heard')) === 'You are heard.');
  await look(page, '02-microphone-test');
  await page.click('#sound summary');
  await page.click('#talk');
  await state(page, 'waiting');
  await look(page, '03-waiting');
  const other = await open(chromium, server.url);
  await other.click('#talk');
  await state(page, 'call');
  await look(page, '04-call');
  await says(other, page, 'Hello! Where are you from?');
  await says(page, other, 'From the sea. You?');
  await until('the way is known', async () => (await page.textContent('#line')).includes('direct'));
  await look(page, '05-chat');
  await page.click('#mute');
  await look(page, '06-muted');
  await page.click('#mute');
  // As when the system takes the sound away.
  await page.evaluate(() => document.getElementById('remote').pause());
  await page.waitForSelector('#hear', { state: 'visible' });
  await look(page, '22-tap-to-hear');
  await page.click('#hear');
  await page.waitForSelector('#hear', { state: 'hidden' });
  await page.click('#report');
  await look(page, '07-report');
  await page.keyboard.press('Escape');
  tunnel.cut('shut');
  await until('it is noticed', async () => (await page.textContent('#line')).includes('the call goes on'));
  await look(page, '08-reconnecting');
  tunnel.cut('through');
  await until('it is back', async () => (await page.textContent('#line')).startsWith('WebSocket'));
  await other.click('#leave');
  await state(page, 'idle');
  assert.equal(await page.textContent('#log p.note'), 'Your partner has left');
  assert.equal(await other.locator('#log p.note').count(), 0, 'one knows that one has left');
  await look(page, '09-left');
});

test('a microphone that is refused', async (t) => {
  const server = await Server.start(t);
  const page = await watched(await browser(t, { microphone: false }), server.url);
  await page.click('#talk');
  await until('it is explained', async () => (await page.textContent('#problem')).includes('Allow it'));
  await look(page, '10-refused');
});

test('a room', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const page = await watched(chromium, `${server.url}/r/tea`, { permissions: ['microphone', 'clipboard-read', 'clipboard-write'] });
  await look(page, '11-room-before');
  await page.click('#copy');
  await until('it is said', async () => (await page.textContent('#copy')) === 'Copied');
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${server.url}/r/tea`);
  await page.click('#talk');
  await state(page, 'room');
  for (let i = 0; i < 3; i++) {
    const other = await open(chromium, `${server.url}/r/tea`);
    await other.click('#talk');
    await state(other, 'room');
  }
  await until('all are there', async () => (await page.locator('.tile[data-state=connected]').count()) === 4);
  await look(page, '12-room');
  await page.getByRole('button', { name: 'Report or block Guest 2' }).click();
  await look(page, '25-report-member');
  await page.keyboard.press('Escape');
  // What was said while nobody could hear it is not said by the next server.
  server.kill();
  await page.fill('#text', 'Is anybody there?');
  await page.press('#text', 'Enter');
  await server.restart();
  await page.waitForSelector('#log p.own.lost');
  server.kill();
  await until('it is noticed', async () => (await page.textContent('#line')).includes('Connection to the server lost'));
  await look(page, '23-room-reconnecting');
});

test('a room whose call is transcribed', async (t) => {
  const server = await Server.start(t, ['--transcribe', 'fake:?delay=10ms&partial=300ms&final=1s']);
  const host = await transcribed(server, 'tea');
  const chromium = await browser(t);
  const pages = [await watched(chromium, `${server.url}/r/tea#host=${host}`), await watched(chromium, `${server.url}/r/tea`)];
  for (const page of pages) {
    await page.click('#talk');
    await state(page, 'room');
  }
  for (const page of pages) await until('several captions', async () => (await page.locator('#said p').count()) > 4);
  await look(pages[0], '14-captions-host');
  await look(pages[1], '15-captions');
  await pages[1].click('#untranscribed');
  await look(pages[1], '16-not-transcribed');
});

test('a link that the browser does not copy is shown', async (t) => {
  const server = await Server.start(t);
  // Browsers have no clipboard for http pages of other names than localhost.
  const url = `http://tea.example:${server.port}/r/tea`;
  const page = await watched(await browser(t, { flags: ['--host-resolver-rules=MAP tea.example 127.0.0.1'] }), url);
  await page.click('#copy');
  assert.equal(await page.textContent('#problem'), `The browser does not let this page copy. The link is ${url}`);
  assert.equal(await page.textContent('#copy'), 'Copy link');
  await look(page, '26-not-copied');
});

test('a server that is not there', async (t) => {
  const server = await Server.start(t);
  const page = await watched(await browser(t), server.url);
  server.kill();
  await page.click('#talk');
  await until('it is said', async () => (await page.textContent('#problem')).includes('cannot be reached'));
  await look(page, '13-unreachable');
});

test('two keys and no mouse', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const pages = [await open(chromium, server.url), await open(chromium, server.url)];
  for (const page of pages) {
    await page.keyboard.press('Tab');
    for (let i = 0; i < 30 && (await page.evaluate(() => document.activeElement?.id)) !== 'talk'; i++) await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
  }
  for (const page of pages) await state(page, 'call');
  const [one, other] = pages;
  for (let i = 0; i < 30 && (await one.evaluate(() => document.activeElement?.id)) !== 'text'; i++) await one.keyboard.press('Tab');
  await one.keyboard.type('men and more');
  assert.equal(await one.getAttribute('#mute', 'aria-pressed'), 'false');
  await one.keyboard.press('Enter');
  await until('it arrives', async () => (await other.textContent('#log')).includes('men and more'));
  await one.keyboard.press('Escape');
  await one.keyboard.press('m');
  assert.equal(await one.getAttribute('#mute', 'aria-pressed'), 'true');
});
