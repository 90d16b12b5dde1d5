/** The examples that people copy: each talks with the page of the server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { connect } from '../../server/client/client.js';
import { Server, atEnd, browser, hears, open, says, state, until } from './support.js';

const client = fileURLToPath(new URL('../../server/client', import.meta.url));
const examples = join(client, 'examples');

/** Files at an address of their own, as an app has them. @returns {Promise<string>} */
async function site(t, files) {
  const server = createServer((request, response) => {
    const file = files[new URL(request.url, 'http://x').pathname];
    response.writeHead(file === undefined ? 404 : 200, { 'Content-Type': request.url.includes('.js') ? 'text/javascript' : 'text/html' });
    response.end(file);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(t, () => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

test('a page without a framework, of another origin', async (t) => {
  const server = await Server.start(t, ['--allowed-origin', '*']);
  const url = await site(t, {
    '/': readFileSync(join(examples, 'vanilla.html')),
    '/vanilla.js': readFileSync(join(examples, 'vanilla.js')),
    '/favicon.ico': '',
  });
  const chromium = await browser(t);
  const one = await open(chromium, `${url}/?server=${encodeURIComponent(server.url)}`);
  const other = await open(chromium, server.url);
  await one.fill('#text', 'is anybody here?');
  await one.press('#text', 'Enter');
  assert.equal(await one.textContent('#log'), '', 'nobody is there who could hear it');
  await one.click('#talk');
  await other.click('#talk');
  await state(other, 'call');
  await until('a partner is there', async () => (await one.textContent('#status')) === 'A partner is there');
  await hears(one);
  await says(one, other, 'hello');
  await other.fill('#text', 'hello you');
  await other.press('#text', 'Enter');
  await until('it arrives', async () => (await one.textContent('#log')).includes('Partner: hello you'));
  await other.click('#leave');
  await until('it is over', async () => (await one.textContent('#status')).startsWith('The call is over'));
  assert.ok(await one.isDisabled('#send'));

  const third = await open(chromium, server.url);
  await third.click('#talk');
  await one.click('#talk');
  await state(third, 'call');
  await one.click('#next');
  await state(third, 'idle');
  // What the end of the call before says of it is not about this one.
  assert.equal(await one.textContent('#status'), 'Waiting for a partner');
  assert.ok(await one.isDisabled('#talk'));
  const fourth = await open(chromium, server.url);
  await fourth.click('#talk');
  await state(fourth, 'call');
  await hears(one);
  await says(one, fourth, 'hello again');
  assert.deepEqual(one.complaints, []);
});

/** A page with a component that uses the hook, and a button that takes it away and brings it back. The app's token is what `window.token` gives. */
async function reactPage(t, server) {
  const app = `
    import { StrictMode, createElement as h, useState } from 'react';
    import { createRoot } from 'react-dom/client';
    import { useVoicematch } from '${join(examples, 'use-voicematch.js')}';
    const options = { token: () => window.token?.() };
    function App() {
      const [shown, setShown] = useState(true);
      return h('div', null, h('button', { id: 'toggle', onClick: () => setShown(!shown) }, 'Toggle'), shown && h(Voice));
    }
    function Voice() {
      const { state, error, messages, talk, next, send, leave, audio } = useVoicematch('${server.url}', options);
      return h('main', null, h('audio', { ref: audio, autoPlay: true, playsInline: true }),
        h('p', { id: 'state' }, error?.code ?? state),
        h('button', { id: 'talk', onClick: talk }, 'Talk'), h('button', { id: 'leave', onClick: leave }, 'Leave'),
        h('button', { id: 'next', onClick: next }, 'Next'),
        h('button', { id: 'hello', onClick: () => send('hello') }, 'Hello'),
        h('ul', { id: 'log' }, messages.map(({ from, data }, i) => h('li', { key: i }, from + ': ' + data))));
    }
    createRoot(document.getElementById('app')).render(h(StrictMode, null, h(App)));`;
  const { outputFiles: [bundle] } = await build({
    stdin: { contents: app, resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
    bundle: true, format: 'esm', write: false, nodePaths: [fileURLToPath(new URL('node_modules', import.meta.url))],
    alias: { voicematch: join(client, 'client.js') }, define: { 'process.env.NODE_ENV': '"development"' },
  });
  return site(t, { '/': '<!doctype html><div id="app"></div><script type="module" src="/app.js"></script>', '/app.js': bundle.contents, '/favicon.ico': '' });
}

test('a hook for React', async (t) => {
  const server = await Server.start(t, ['--allowed-origin', '*']);
  const chromium = await browser(t);
  const one = await open(chromium, await reactPage(t, server));
  await one.click('#hello');
  const other = await open(chromium, server.url);
  await one.click('#talk');
  await other.click('#talk');
  await state(other, 'call');
  await until('it talks', async () => (await one.textContent('#state')) === 'call');
  await hears(one);
  await one.click('#hello');
  await until('it arrives', async () => (await other.textContent('#log')).includes('hello'));
  await other.fill('#text', 'and you');
  await other.press('#text', 'Enter');
  await until('it arrives', async () => (await one.textContent('#log')).includes('partner: and you'));
  await one.click('#leave');
  await state(other, 'idle');
  await until('it is over', async () => (await one.textContent('#state')) === 'idle');

  const third = await open(chromium, server.url);
  await third.click('#talk');
  await one.click('#talk');
  await state(third, 'call');
  await one.click('#next');
  await state(third, 'idle');
  await until('it waits', async () => (await one.textContent('#state')) === 'waiting');
  assert.deepEqual(one.complaints, []);
});

test('a component that goes takes its session and its microphone with it, whatever is under way', async (t) => {
  const server = await Server.start(t, ['--allowed-origin', '*']);
  const waiting = () => server.metric('matchmaking_waiting_users{pool="anyone"}');
  const one = await open(await browser(t), await reactPage(t, server), {}, () => {
    window.tracks = [];
    const { mediaDevices } = navigator;
    const ask = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = async (wanted) => {
      const stream = await ask(wanted);
      window.tracks.push(...stream.getTracks());
      return stream;
    };
  });
  // While it connects: the app makes a token meanwhile.
  await one.evaluate(() => {
    window.token = () => new Promise((resolve) => (window.give = resolve));
  });
  await one.click('#talk');
  await until('the app is asked', () => one.evaluate(() => Boolean(window.give)));
  await one.click('#toggle');
  await one.evaluate(() => {
    delete window.token;
    window.give('');
  });
  await one.click('#toggle');
  await one.click('#talk');
  await until('it waits', async () => (await waiting()) === 1);
  assert.equal(await server.metric('sessions_total'), 1);
  // While it waits for a partner.
  await one.click('#toggle');
  await until('it waits no more', async () => (await waiting()) === 0);
  assert.deepEqual(await one.evaluate(() => window.tracks.map(({ readyState }) => readyState)), ['ended']);
  assert.deepEqual(one.complaints, []);
});

test('a chat bot in Node.js', async (t) => {
  const server = await Server.start(t);
  const bot = spawn(process.execPath, [join(examples, 'chat-bot.js'), server.url], { stdio: ['ignore', 'pipe', 'inherit'] });
  atEnd(t, () => bot.kill('SIGKILL'));
  let said = '';
  bot.stdout.on('data', (text) => (said += text));
  await until('it waits', async () => (await server.metric('matchmaking_waiting_users{pool="anyone"}')) === 1);
  const page = await open(await browser(t), server.url);
  await page.click('#talk');
  await until('it speaks', async () => (await page.textContent('#log')).includes('I am a program'));
  await page.fill('#text', 'good morning');
  await page.press('#text', 'Enter');
  await until('it answers', async () => (await page.textContent('#log')).includes('You said: good morning'));
  await page.click('#leave');
  await until('it goes on', () => said.includes('the partner is gone: left'));
  // One who leaves in the middle of its answers.
  const vm = await connect(server.url, { media: false });
  atEnd(t, () => vm.close());
  const call = await vm.find();
  for (let i = 0; i < 20; i++) call.send(i).catch(() => {});
  await call.leave();
  await until('it goes on', () => said.split('the partner is gone: left').length === 3);
  await until('it waits', async () => (await server.metric('matchmaking_waiting_users{pool="anyone"}')) === 1);
  bot.kill('SIGINT');
  const [code] = await once(bot, 'exit');
  assert.equal(code, 0);
});
