/** Tabs and devices that sleep: nobody is matched with one, and one that wakes goes on, or begins anew and says so. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { connect } from '../../server/client/client.js';
import { Server, atEnd, browser, open, state, until } from './support.js';

/** The server finds out soon. By default it takes 19 s, and the session ends 15 s later. */
const SOON = ['--resume-heartbeat', '1s', '--resume-deadline', '2s'];

/**
 * A browser as users have it: under the flags of automation each tab counts as visible, and none is ever frozen.
 * @param {number} count Of tabs, all at this address.
 */
async function tabs(t, url, count) {
  const profile = mkdtempSync(join(tmpdir(), 'voicematch-profile-'));
  // In a group of its own, that it can be stopped with all its processes.
  const program = spawn('/usr/bin/chromium', [
    '--headless', '--no-sandbox', '--no-first-run', '--remote-debugging-port=0', `--user-data-dir=${profile}`,
    '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', 'about:blank',
  ], { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  const ended = once(program, 'exit');
  atEnd(t, async () => {
    process.kill(-program.pid, 'SIGKILL');
    await ended;
    rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
  });
  let address;
  for await (const line of createInterface(program.stderr)) {
    address = /^DevTools listening on (\S+)/.exec(line)?.[1];
    if (address) break;
  }
  program.stderr.resume();
  const [context] = (await chromium.connectOverCDP(address, { noDefaults: true })).contexts();
  const pages = context.pages();
  while (pages.length < count) pages.push(await context.newPage());
  for (const page of pages) await page.goto(url);
  return { pages, program };
}

/** Only a tab in front can be clicked. */
async function talk(page) {
  await page.bringToFront();
  await page.click('#talk');
}

/** As a browser does with tabs that nobody has looked at for minutes, if they are not in a call. @returns What wakes it. */
async function freeze(page) {
  await until('it is hidden', () => page.evaluate(() => document.hidden));
  const session = await page.context().newCDPSession(page);
  const become = (state) => session.send('Page.setWebLifecycleState', { state });
  await become('frozen');
  return () => become('active');
}

for (const [name, window, seen, sessions] of [
  ['a tab that sleeps while it waits goes on', '60s', 'sessions_detached', 2],
  ['a tab that sleeps until its session is over begins anew', '100ms', 'sessions_closed_total{reason="lost"}', 3],
]) {
  test(`${name}, and meanwhile nobody is matched with it`, async (t) => {
    const server = await Server.start(t, [...SOON, '--resume-window', window]);
    const { pages: [page, front] } = await tabs(t, server.url, 2);
    await talk(page);
    await state(page, 'waiting');
    await front.bringToFront();
    const wake = await freeze(page);
    await until(seen, async () => (await server.metric(seen)) === 1);
    const other = await connect(server.url, { media: false });
    atEnd(t, () => other.close());
    const waiting = once(other, 'waiting').then(() => 'waiting');
    const found = other.find().then(() => 'a match');
    assert.equal(await Promise.race([found, waiting]), 'waiting');
    await wake();
    await until('they meet', () => other.room);
    await other.room.send('good morning');
    await until('it arrives', async () => (await page.textContent('#log')).includes('good morning'));
    assert.equal(await server.metric('sessions_total'), sessions);
  });
}

test('a page that the browser keeps while its user is elsewhere begins anew', async (t) => {
  const server = await Server.start(t);
  const { pages: [page] } = await tabs(t, server.url, 1);
  await talk(page);
  await state(page, 'waiting');
  await page.evaluate(() => {
    window.mark = 'kept';
  });
  await page.goto(`http://localhost:${server.port}/health`);
  await until('nobody waits', async () => (await server.metric('matchmaking_waiting_users{pool="anyone"}')) === 0);
  // A page that was kept is not loaded again.
  await page.goBack({ waitUntil: 'commit' });
  assert.equal(await page.evaluate(() => window.mark), 'kept', 'it is the same page');
  await state(page, 'idle');
  await talk(page);
  await state(page, 'waiting');
});

test('a device that sleeps in a call: the partner is told, and so is the user who wakes it', async (t) => {
  const server = await Server.start(t, [...SOON, '--resume-window', '100ms']);
  const { pages: [page], program } = await tabs(t, server.url, 1);
  const other = await open(await browser(t), server.url);
  for (const each of [page, other]) await each.click('#talk');
  for (const each of [page, other]) await state(each, 'call');
  process.kill(-program.pid, 'SIGSTOP');
  await state(other, 'idle');
  assert.match(await other.textContent('#log'), /Your partner is lost/);
  process.kill(-program.pid, 'SIGCONT');
  await state(page, 'idle');
  assert.match(await page.textContent('#log'), /Your partner is lost/);
  for (const each of [page, other]) await each.click('#talk');
  for (const each of [page, other]) await state(each, 'call');
});
