/** A call that is transcribed: what is said is shown to all, and stored. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Server, Tunnel, atEnd, browser, open, state, transcribed, until } from './support.js';

/** It hears words wherever it is not silent. */
const FLAGS = ['--transcribe', 'fake:?delay=10ms&partial=300ms&final=1s'];

/** A page whose audio to the server is counted: `frames`, and what else it says there. */
async function listened(chromium, url) {
  const page = await open(chromium, url);
  page.frames16 = [];
  page.told = [];
  page.on('websocket', (socket) => {
    if (!socket.url().includes('/transcribe')) return;
    socket.on('framesent', ({ payload }) => (typeof payload === 'string' ? page.told : page.frames16).push(payload));
  });
  return page;
}

/** The host and another user in a room whose call is transcribed. */
async function talk(t) {
  const server = await Server.start(t, FLAGS);
  const tunnel = await Tunnel.start(t, server.port);
  const token = await transcribed(server, 'tea');
  const chromium = await browser(t);
  const host = await listened(chromium, `${tunnel.url}/r/tea#host=${token}`);
  const other = await listened(chromium, `${server.url}/r/tea`);
  for (const page of [host, other]) {
    await page.click('#talk');
    await state(page, 'room');
  }
  return { server, tunnel, token, host, other };
}

const lines = (page) => page.locator('#said p').allTextContents();

/** Waits for a new line of this name. */
async function says(page, name) {
  const before = (await lines(page)).filter((line) => line.startsWith(name)).length;
  await until(`${name} is shown`, async () => (await lines(page)).filter((line) => line.startsWith(`${name}: word`)).length > before);
}

async function transcript(server, token) {
  const response = await fetch(`${server.url}/api/sessions/tea/transcript.json`, { headers: { authorization: `Bearer ${token}` } });
  return (await response.json()).segments;
}

test('both read what both say, and the transcript has it', async (t) => {
  const { server, token, host, other } = await talk(t);
  assert.doesNotMatch(host.url(), /#/, 'the token is in nobody\'s sight');
  await until('it is said', async () => /is transcribed.*You share/.test(await host.textContent('#transcribed')));
  await until('it is said', async () => /is transcribed.*Guest 1 shares/.test(await other.textContent('#transcribed')));
  for (const [page, name] of [[host, 'You'], [host, 'Guest 2'], [other, 'You'], [other, 'Guest 1']]) await says(page, name);
  await until('words while they are said', () => other.evaluate(() => document.querySelector('#saying p')?.textContent.includes(': word')));
  for (const { length } of [...host.frames16, ...other.frames16]) assert.equal(length, 3200);

  const heard = (await lines(host)).filter((line) => line.startsWith('Guest 2: ')).map((line) => line.slice('Guest 2: '.length));
  const segments = await until('it is stored', async () => {
    const found = (await transcript(server, token)).filter(({ name }) => name === 'Guest 2');
    return found.length >= heard.length && found;
  });
  assert.deepEqual(segments.map(({ text }) => text).slice(0, heard.length), heard);
  const seen = (await lines(other)).filter((line) => line.startsWith('You: ')).map((line) => line.slice('You: '.length));
  assert.deepEqual(segments.map(({ text }) => text).filter((text) => seen.includes(text)), seen);
  for (const page of [host, other]) {
    assert.equal(await page.locator('#log p:not(.note)').count(), 0, 'captions are no chat');
    assert.deepEqual(page.complaints, []);
  }
});

test('who is muted, or does not want to, sends no audio', async (t) => {
  const { host, other } = await talk(t);
  await says(host, 'Guest 2');
  /** Nothing more comes while the host sends on. */
  const isSilent = async () => {
    await until('it is told', () => other.told.at(-1) === '{"type":"pause"}');
    const [silent, sent] = [other.frames16.length, host.frames16.length];
    await until('the host sends', () => host.frames16.length >= sent + 20);
    assert.equal(other.frames16.length, silent);
  };
  await other.click('#mute');
  await isSilent();
  await other.click('#mute');
  await says(host, 'Guest 2');
  await other.click('#untranscribed');
  await isSilent();
  await other.click('#untranscribed');
  await says(host, 'Guest 2');
  assert.deepEqual(other.told.map((text) => JSON.parse(text).type), ['pause', 'resume_audio', 'pause', 'resume_audio']);
});

test('who does not want to be transcribed stays so when the host leaves and comes back', async (t) => {
  const { host, other } = await talk(t);
  await says(host, 'Guest 2');
  await other.click('#untranscribed');
  await host.click('#talk');
  await until('it is said', async () => (await other.textContent('#transcribed')) === 'This call is not transcribed any more.');
  const sent = other.frames16.length;
  await host.click('#talk');
  await says(other, 'Guest 3');
  assert.equal(await other.getAttribute('#untranscribed', 'aria-pressed'), 'true');
  await until('it is offered', () => other.isVisible('#untranscribed'));
  const before = host.frames16.length;
  await until('the host sends', () => host.frames16.length >= before + 20);
  assert.equal(other.frames16.length, sent);
  await other.click('#untranscribed');
  await until('and is transcribed again when they want it', () => other.frames16.length > sent);
});

test('captions go on with a server that was killed, and when the host leaves they end', async (t) => {
  const { server, token, host, other } = await talk(t);
  await says(other, 'Guest 1');
  await says(host, 'Guest 2');
  await server.restart();
  for (const [page, name] of [[host, 'You'], [host, 'Guest 2'], [other, 'You'], [other, 'Guest 1']]) await says(page, name);
  const shown = (await lines(host)).at(-1).replace(/^.*?: /, '');
  await until('it is stored', async () => (await transcript(server, token)).some(({ text }) => text === shown));
  await host.click('#talk');
  await until('it is said', async () => (await other.textContent('#transcribed')) === 'This call is not transcribed any more.');
  const sent = other.frames16.length;
  await host.click('#talk');
  // In a place of its own: who has left is somebody else when they come back.
  await says(other, 'Guest 3');
  assert.ok(other.frames16.length > sent, 'and begin again with the host');
});

test('a host who was away reads and passes on what was said meanwhile, once', async (t) => {
  const { server, tunnel, token, host, other } = await talk(t);
  await says(host, 'Guest 2');
  const said = async () => (await transcript(server, token)).filter(({ name }) => name === 'Guest 2').map(({ text }) => text);
  const of = async (page, name) => (await lines(page)).filter((line) => line.startsWith(`${name}: word`)).map((line) => line.slice(name.length + 2));
  tunnel.cut('shut');
  const before = (await said()).length;
  const meanwhile = await until('more is said', async () => (await said()).length > before + 2 && (await said()));
  assert.ok((await of(host, 'Guest 2')).length < meanwhile.length);
  tunnel.cut('through');
  for (const [page, name] of [[host, 'Guest 2'], [other, 'You']]) {
    const shown = await until('it is read', async () => (await of(page, name)).includes(meanwhile.at(-1)) && (await of(page, name)));
    // What is read may be stored a moment later.
    const stored = await until('it is stored', async () => (await said()).includes(shown.at(-1)) && (await said()));
    assert.deepEqual(shown, stored.filter((text) => shown.includes(text)), 'in order, and once');
    assert.deepEqual(meanwhile.slice(before).filter((text) => !shown.includes(text)), []);
  }
});

test('a room without a session shows and loads nothing of it', async (t) => {
  const server = await Server.start(t, FLAGS);
  // Of the wrong token, at the end.
  const chromium = await browser(t, { expected: /status of 401/ });
  const pages = [await open(chromium, `${server.url}/r/tea`), await open(chromium, `${server.url}/r/tea`)];
  const asked = [];
  for (const page of pages) page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  for (const page of pages) {
    await page.click('#talk');
    await state(page, 'room');
  }
  await until('both are there', async () => (await pages[0].locator('.tile[data-state=connected]').count()) === 2);
  assert.equal(await pages[0].isVisible('#captions'), false);
  assert.deepEqual(asked.filter((path) => /api|transcribe|pcm/.test(path)), []);
  for (const page of pages) assert.deepEqual(page.complaints, []);
  const wrong = await open(chromium, `${server.url}/r/tea#host=a.b.c`);
  await wrong.click('#talk');
  await until('it is said', async () => (await wrong.textContent('#problem')).startsWith('There are no captions: '));
});

test('a page of its own: 5 s are kept while the server is away, the rest is counted, and words come again', async (t) => {
  const server = await Server.start(t, FLAGS);
  const tunnel = await Tunnel.start(t, server.port);
  const token = await transcribed(server, 'tea');
  const chromium = await browser(t);
  const page = await open(chromium, tunnel.url);
  await page.evaluate(async (token) => {
    const { Transcription } = await import('/client/transcribe.js');
    const track = (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks()[0];
    window.all = [];
    window.own = new Transcription({ token, track });
    for (const type of ['final', 'gap', 'dropped', 'error', 'ended']) {
      window.own.addEventListener(type, ({ detail }) => window.all.push({ type, ...detail, code: detail.code ?? detail.reason }));
    }
  }, token);
  const count = (type) => page.evaluate((type) => window.all.filter((event) => event.type === type).length, type);
  const state = (wanted) => until(wanted, async () => (await page.evaluate(() => window.own.state)) === wanted);
  await until('words', () => count('final'));
  for (const restarts of [false, true]) {
    tunnel.cut('shut');
    await state('reconnecting');
    const before = await count('dropped');
    await until('more is dropped than kept', async () => (await count('dropped')) > before + 5);
    if (restarts) await server.restart();
    const [finals, words] = [await count('final'), await page.evaluate(() => window.own.droppedMs)];
    assert.ok(words >= 500);
    tunnel.mode = 'through';
    await state('open');
    await until('words again', async () => (await count('final')) > finals + 5);
  }
  assert.equal(await count('error'), 0, JSON.stringify(await page.evaluate(() => window.all)));
  const numbers = await page.evaluate(() => window.all.filter(({ seq }) => seq).map(({ seq }) => seq));
  assert.equal(new Set(numbers).size, numbers.length, 'nothing comes twice');
  await page.evaluate(() => window.own.stop());
  await until('the end', () => count('ended'));
  assert.equal((await page.evaluate(() => window.all.at(-1))).code, 'host');
  assert.equal(await page.evaluate(() => window.own.state), 'ended');
  await page.evaluate(async () => {
    const { Transcription } = await import('/client/transcribe.js');
    window.own = new Transcription({ token: 'a.b.c' });
    window.own.addEventListener('ended', ({ detail }) => (window.why = detail.reason));
  });
  await until('a token that is none is not tried for ever', () => page.evaluate(() => window.why === 'token_invalid'));
});

test('who has stopped sends nothing until they go on, and a host who stops without a connection ends the session', async (t) => {
  const server = await Server.start(t, FLAGS);
  const tunnel = await Tunnel.start(t, server.port);
  const token = await transcribed(server, 'tea');
  const page = await listened(await browser(t), tunnel.url);
  await page.evaluate(async (token) => {
    const { Transcription, joinSession } = await import('/client/transcribe.js');
    const track = (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks()[0];
    window.host = new Transcription({ token });
    window.host.addEventListener('ended', ({ detail }) => (window.why = detail.reason));
    const ann = await joinSession('tea', { user: 'ann' }, { token });
    window.ann = new Transcription({ token: ann.token, track });
  }, token);
  const sends = () => {
    const before = page.frames16.length;
    return until('audio is sent', () => page.frames16.length > before + 5);
  };
  await sends();
  await page.evaluate(() => window.ann.stop());
  await until('the server hears it', () => page.told.some((text) => JSON.parse(text).type === 'stop'));
  const stopped = page.frames16.length;
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(page.frames16.length, stopped);
  await page.evaluate(() => window.ann.resume());
  await sends();
  tunnel.cut('shut');
  await until('it is noticed', () => page.evaluate(() => window.host.state === 'reconnecting'));
  await page.evaluate(() => window.host.stop());
  tunnel.mode = 'through';
  await until('the session ends', () => page.evaluate(() => window.why === 'host'));
});

/** The same token, as if it had been made so long ago that it is good for these seconds. */
function ending(token, seconds, key) {
  const [header, claims] = token.split('.');
  // As text: the participant's number is too large for this language.
  const shorter = Buffer.from(claims, 'base64url').toString().replace(/"exp":\d+/, `"exp":${Math.floor(Date.now() / 1000) + seconds}`);
  const signed = `${header}.${Buffer.from(shorter).toString('base64url')}`;
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
}

test('when a token ends a function is asked for another one, and a token alone is the end', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'voicematch-key-'));
  atEnd(t, () => rmSync(folder, { recursive: true }));
  const [file, key] = [join(folder, 'key'), 'a key of tokens that is long enough'];
  writeFileSync(file, key, { mode: 0o600 });
  const server = await Server.start(t, [...FLAGS, '--transcribe-token-key-file', file]);
  const token = await transcribed(server, 'tea');
  const page = await open(await browser(t), server.url);
  const listen = (tokens) => page.evaluate(async (tokens) => {
    const { Transcription } = await import('/client/transcribe.js');
    window.own?.close();
    // `null`: the app cannot be asked.
    const token = tokens.length > 1 ? async () => tokens.shift() ?? Promise.reject(new TypeError('Failed to fetch')) : tokens[0];
    const own = window.own = new Transcription({ token });
    window.states = [];
    own.addEventListener('state', () => window.states.push(own.state));
    own.addEventListener('ended', ({ detail }) => window.states.push(detail.reason));
  }, tokens);
  const passes = (...states) => until(states.join(), async () => (await page.evaluate(() => window.states.join())) === states.join());
  await listen([ending(token, 3, key), token]);
  await passes('open', 'reconnecting', 'open');
  await listen([ending(token, 3, key), null, token]);
  await passes('open', 'reconnecting', 'open');
  await listen([null, token]);
  await passes('ended', 'token');
  await listen([ending(token, 3, key)]);
  await passes('open', 'ended', 'token_expired');
});
