/** Did the call work? What two pages tell the server with their users' consent, and what it counts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server, Tunnel, browser, hears, open, state, until, way } from './support.js';

/** A page, and what it reports. */
async function reporting(chromium, url) {
  const page = await open(chromium, url);
  page.reports = [];
  page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => {
    const message = JSON.parse(payload);
    if (message.type === 'call_report') page.reports.push(message);
  }));
  return page;
}

/** The sum of all series of a metric. */
async function sum(server, name) {
  const text = await (await fetch(`${server.admin}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

test('a call that came about: times, kinds of ways, restarts and lost audio, from both', async (t) => {
  const server = await Server.start(t);
  const tunnel = await Tunnel.start(t, server.port);
  const chromium = await browser(t);
  const pages = [await reporting(chromium, tunnel.url), await reporting(chromium, server.url)];
  for (const page of pages) await page.click('#talk');
  for (const page of pages) await state(page, 'call');
  for (const page of pages) {
    await hears(page);
    await until('the way is known', async () => (await page.textContent('#line')).includes('direct'));
  }
  // The network of one has changed: it looks for another way when the server is there again.
  const first = await way(pages[0]);
  await pages[0].evaluate(() => dispatchEvent(new Event('online')));
  tunnel.cut();
  await until('there is another way', async () => (await way(pages[0])) !== first);
  await hears(pages[0]);
  await pages[0].click('#leave');
  for (const page of pages) await until('it is reported', () => page.reports.length);
  for (const [i, page] of pages.entries()) {
    const [{ type, seq, setup_ms, audio_ms, lost_percent, local, remote, ...report }] = page.reports;
    assert.deepEqual(report, { outcome: 'connected', path: 'direct', restarts: i ? 0 : 1 });
    assert.ok(setup_ms > 0 && setup_ms < 20_000 && audio_ms > 0 && audio_ms < 20_000, `${setup_ms}, ${audio_ms}`);
    assert.ok(lost_percent >= 0 && lost_percent < 50, `${lost_percent}`);
    for (const kind of [local, remote]) assert.match(kind, /^(host|prflx)$/);
  }
  await until('both are counted', async () => (await server.metric('calls_total{outcome="connected",path="direct"}')) === 2);
  for (const name of ['calls_total', 'call_candidates_total', 'call_setup_seconds_count', 'call_audio_seconds_count', 'call_lost_audio_ratio_count']) {
    assert.equal(await sum(server, name), 2, name);
  }
  assert.deepEqual([await sum(server, 'call_restarts_total'), await sum(server, 'call_failures_total')], [1, 0]);
  // In seconds: what the pages have said in milliseconds.
  const said = pages.map(({ reports: [{ setup_ms }] }) => setup_ms).reduce((a, b) => a + b);
  assert.ok(Math.abs(await server.metric('call_setup_seconds_sum') * 1000 - said) < 1);
});

test('each call of a room is reported by both: of who leaves, and of those who stay', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const pages = [];
  for (let i = 0; i < 3; i++) {
    pages.push(await reporting(chromium, `${server.url}/r/tea`));
    await pages[i].click('#talk');
    await state(pages[i], 'room');
  }
  for (const page of pages) {
    await until('all are there', async () => (await page.locator('.tile[data-state=connected]').count()) === 3);
    await hears(page);
  }
  await pages[0].click('#talk');
  await until('those who stay report theirs', () => pages[1].reports.length === 1 && pages[2].reports.length === 1);
  await pages[1].click('#talk');
  await until('the last one does', () => pages[2].reports.length === 2);
  assert.deepEqual(pages.map(({ reports }) => reports.length), [2, 2, 2]);
  for (const { reports } of pages) for (const { outcome } of reports) assert.equal(outcome, 'connected');
  await until('all are counted', async () => (await sum(server, 'calls_total')) === 6);
  for (const page of pages) assert.deepEqual(page.complaints, []);
});

test('a call that did not come about, and why: there is no address to be reached at', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const pages = [await reporting(chromium, server.url), await reporting(chromium, server.url)];
  // This server has no relay.
  await pages[0].click('#sound summary');
  await pages[0].click('#relay');
  for (const page of pages) await page.click('#talk');
  for (const page of pages) await state(page, 'ringing');
  // It is known after five seconds, and nothing tells it before.
  await new Promise((resolve) => setTimeout(resolve, 5500));
  await pages[0].click('#leave');
  for (const page of pages) await until('it is reported', () => page.reports.length);
  for (const { reports: [{ type, seq, ...report }] } of pages) {
    assert.deepEqual(report, { outcome: 'failed', reason: 'no_candidates', path: 'unknown', restarts: 0 });
  }
  await until('both are counted', async () => (await server.metric('calls_total{outcome="failed",path="unknown"}')) === 2);
  assert.equal(await server.metric('call_failures_total{reason="no_candidates"}'), 2);
});

test('who does not agree reports nothing', async (t) => {
  const server = await Server.start(t);
  const chromium = await browser(t);
  const pages = [await reporting(chromium, server.url), await reporting(chromium, server.url)];
  await pages[0].click('#sound summary');
  await pages[0].click('#consent');
  for (const page of pages) await page.click('#talk');
  for (const page of pages) await state(page, 'call');
  await pages[0].click('#leave');
  await until('the other reports', () => pages[1].reports.length);
  await until('it is counted', async () => (await sum(server, 'calls_total')) === 1);
  assert.deepEqual(pages[0].reports, []);
});
