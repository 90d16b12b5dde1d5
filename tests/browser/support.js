/** A server, browsers, and a network between them that fails on demand. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const root = fileURLToPath(new URL('../..', import.meta.url));
const program = process.env.VOICEMATCH_SERVER ?? join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'debug/voicematch-server');

/** How long anything may take that is waited for. */
const PATIENCE = 20_000;

/** What a console says of a network that is broken on purpose. */
const OF_NETWORKS = /WebSocket connection to|Failed to load resource|net::ERR_/;
let isBroken = false;
/** The test is over: what is ended then breaks, too. */ let isOver = false;

/** From here on consoles may complain of the network. */
export function breaksNetwork() {
  isBroken = true;
}

/** Waits until it is true. @template T @param {string} what @param {() => T | Promise<T>} ask */
export async function until(what, ask, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** @type {WeakMap<import('node:test').TestContext, (() => unknown)[]>} */
const ends = new WeakMap();

/** Does this when the test is over, whatever else fails then: who is left would keep the process of the tests alive.
 * @param {import('node:test').TestContext} t @param {() => unknown} end */
export function atEnd(t, end) {
  const all = ends.get(t) ?? [];
  if (!all.length) {
    ends.set(t, all);
    t.after(async () => {
      const errors = [];
      for (const end of all) await Promise.resolve().then(end).catch((error) => errors.push(error));
      if (errors.length) throw errors[0];
    });
  }
  all.push(end);
}

/** Tells this if the test has failed, before anything ends. Node.js before 20.12 does not know whether it has. */
function ifFailed(t, tell) {
  atEnd(t, () => {});
  ends.get(t).unshift(() => t.passed === false && tell());
}

/** Ends when the test does. */
export class Server {
  /** @param {import('node:test').TestContext} t @param {string[]} flags @param {string} host */
  static async start(t, flags = [], host = '127.0.0.1') {
    isBroken = isOver = false;
    const server = new Server();
    server.state = mkdtempSync(join(tmpdir(), 'voicematch-browser-'));
    server.flags = flags;
    server.host = host;
    await server.run(0);
    atEnd(t, () => {
      isOver = true;
      server.process?.kill('SIGKILL');
      rmSync(server.state, { recursive: true, force: true });
    });
    return server;
  }

  async run(port) {
    const own = ['--listen', `${this.host}:${port}`, '--admin-listen', '127.0.0.1:0', '--state-dir', this.state];
    this.process = spawn(program, [...own, ...this.flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.log = '';
    this.process.stderr.on('data', (text) => (this.log += text));
    for await (const line of createInterface(this.process.stdout)) {
      this.port ??= Number(/^public .*http:\/\/[^/]*:(\d+)\//.exec(line)?.[1]) || undefined;
      this.admin = /^admin +(http:\/\/[^/]*)\//.exec(line)?.[1];
      if (this.admin) break;
    }
    if (!this.admin) throw new Error(`the server did not start:\n${this.log}`);
    this.url = `http://${this.host}:${this.port}`;
  }

  kill() {
    breaksNetwork();
    this.process.kill('SIGKILL');
  }

  /** Is there again, at the same address, and knows nothing. */
  async restart() {
    this.kill();
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, 'exit');
    await this.run(this.port);
  }

  /** The value of a metric. @param {string} series */
  async metric(series) {
    const text = await (await fetch(`${this.admin}/metrics`)).text();
    const line = text.split('\n').find((line) => line.startsWith(`${series} `));
    return line ? Number(line.slice(series.length + 1)) : undefined;
  }
}

/** Between browser and server: what it does with connections can be changed at any time. */
export class Tunnel {
  /** `through`; `no-websocket`: refused; `no-streams`: WebSockets and event streams are refused; `silent`: an upgrade succeeds and then nothing comes;
   * `hangs`: an upgrade is never answered; `all-hang`: nor is an event stream; `shut`: nobody gets through; `hole`: what is sent disappears. */
  mode = 'through';
  /** Where new connections lead. @type {number} */ port;
  #sockets = new Set();

  /** @param {import('node:test').TestContext} t @param {number} port */
  static async start(t, port) {
    breaksNetwork();
    const tunnel = new Tunnel();
    tunnel.port = port;
    tunnel.server = net.createServer((socket) => tunnel.#carry(socket));
    tunnel.server.listen(0, '127.0.0.1');
    await once(tunnel.server, 'listening');
    tunnel.url = `http://127.0.0.1:${tunnel.server.address().port}`;
    atEnd(t, () => {
      tunnel.server.close();
      tunnel.cut();
    });
    return tunnel;
  }

  #carry(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket));
    if (this.mode === 'shut') return socket.destroy();
    const to = net.connect(this.port, '127.0.0.1');
    to.on('error', () => socket.destroy()).on('close', () => socket.destroy());
    socket.on('close', () => to.destroy());
    let swallows = false;
    socket.on('data', (bytes) => {
      if (this.mode === 'hole') return;
      const start = bytes.toString('latin1');
      const wanted = /^GET \/(ws|events)/.exec(start)?.[1];
      if (wanted === 'ws' && ['no-websocket', 'no-streams'].includes(this.mode)) return socket.destroy();
      if (wanted === 'events' && this.mode === 'no-streams') return socket.destroy();
      if (wanted === 'ws' && this.mode === 'hangs') return;
      if (wanted && this.mode === 'all-hang') return;
      if (wanted === 'ws' && this.mode === 'silent') swallows = true;
      to.write(bytes);
    });
    to.on('data', (bytes) => {
      if (this.mode === 'hole') return;
      if (!swallows) return socket.write(bytes);
      const end = bytes.indexOf('\r\n\r\n');
      if (end >= 0) socket.write(bytes.subarray(0, end + 4));
    });
  }

  /** All connections break. @param {string} [mode] From now on. */
  cut(mode = this.mode) {
    this.mode = mode;
    for (const socket of this.#sockets) socket.destroy();
  }
}

const FLAGS = [
  '--use-fake-device-for-media-stream', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run',
  '--autoplay-policy=document-user-activation-required',
];

/** The engine of servers that are one service. */
export class Engine {
  /** @param {import('node:test').TestContext} t */
  static async start(t) {
    const engine = new Engine();
    engine.port = await freePort();
    const flags = ['--port', `${engine.port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
    engine.process = spawn('redis-server', flags, { stdio: 'ignore' });
    atEnd(t, () => engine.process.kill('SIGKILL'));
    await until('the engine listens', () => listens(engine.port));
    return engine;
  }
}

/** Debian's coturn, with the credentials that a server with its flags gives. */
export class Relay {
  /** @param {import('node:test').TestContext} t */
  static async start(t) {
    const relay = new Relay();
    const folder = mkdtempSync(join(tmpdir(), 'voicematch-turn-'));
    const secret = 'a-secret-of-thirty-two-bytes-or-more';
    writeFileSync(join(folder, 'secret'), `${secret}\n`, { mode: 0o600 });
    const port = await freePort();
    relay.process = spawn('turnserver', [
      '-n', '--listening-ip=127.0.0.1', '--relay-ip=127.0.0.1', `--listening-port=${port}`, '--use-auth-secret', `--static-auth-secret=${secret}`,
      '--realm=test', '--no-tls', '--no-dtls', '--no-cli', '--fingerprint', '--allow-loopback-peers', '--log-file=stdout', `--pidfile=${folder}/pid`, `--userdb=${folder}/db`,
    ], { stdio: 'ignore' });
    atEnd(t, () => {
      relay.process.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    });
    await until('coturn listens', () => listens(port));
    relay.flags = ['--turn-url', `turn:127.0.0.1:${port}`, '--turn-secret-file', join(folder, 'secret')];
    return relay;
  }
}

/** @param {number} port */
export const listens = (port) => new Promise((resolve) => {
  const socket = net.connect(port, '127.0.0.1', () => resolve(Boolean(socket.destroy()))).on('error', () => resolve(false));
});

/** A port that nobody listens at. */
export async function freePort() {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/** No console of it complains of anything but what is `expected`, and of networks where the test breaks them.
 * @param {import('node:test').TestContext} t @param {{microphone?: boolean, flags?: string[], program?: string, expected?: RegExp}} [options] */
export async function browser(t, { microphone = true, flags = [], program = '/usr/bin/chromium', expected = /^$/ } = {}) {
  // A page that comes from files is of no network, and may not ask one.
  const files = process.env.FILES ? ['--disable-features=LocalNetworkAccessChecks'] : [];
  const args = [...FLAGS, ...files, microphone ? '--use-fake-ui-for-media-stream' : '--deny-permission-prompts', ...flags];
  const browser = await chromium.launch({ executablePath: program, headless: true, chromiumSandbox: false, args });
  browser.complaints = [];
  browser.tabs = [];
  atEnd(t, async () => {
    await browser.close();
    const complaints = browser.complaints.filter((text) => !expected.test(text) && !(isBroken && OF_NETWORKS.test(text)));
    // Of a test that has failed before, the error here is not shown.
    for (const text of complaints) t.diagnostic(`a console complains: ${text}`);
    assert.deepEqual(complaints, [], 'what consoles complain of');
  });
  ifFailed(t, async () => {
    for (const [i, { page, did }] of browser.tabs.entries()) {
      const body = page.locator('body');
      const shown = [body.getAttribute('data-state', { timeout: 2000 }), body.innerText({ timeout: 2000 })];
      const [state, text] = await Promise.all(shown.map((shown) => shown.catch(String)));
      t.diagnostic(`page ${i} is in the state ${state}, and shows: ${text.replace(/\s+/g, ' ').slice(-500)}`);
      for (const line of did.slice(-40)) t.diagnostic(`page ${i}: ${line}`);
    }
  });
  return browser;
}

/** With FILES=1 pages take client and page from the working copy, in place of what the server has been built with.
 * @param {import('playwright-core').BrowserContext} context */
async function fromFiles(context) {
  const from = (route, path) => route.fulfill({ path: join(root, 'server/client', path) });
  await context.route(/^[^?#]*\/(client\.js|client\/[^/]+|page\/[^/]+)$/, (route) => from(route, new URL(route.request().url()).pathname));
  await context.route(/^https?:\/\/[^/]*\/(r\/[^/]*)?(\?.*)?$/, (route) => from(route, 'page/index.html'));
}

/** A page of its own; whatever its console complains of is kept, and is to be nothing in the end: see `browser`.
 * @param {import('playwright-core').Browser} browser @param {string} url @param {() => void} [before] What the page does first of all. */
export async function open(browser, url, options = {}, before = () => {}) {
  return tab(await user(browser, options, before), url);
}

/** Somebody who may open several tabs. @param {import('playwright-core').Browser} browser @param {() => void} [before] */
export async function user(browser, options = {}, before = () => {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  // The newest connection first: what the page itself does not show.
  await context.addInitScript(() => {
    window.peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...options) {
        super(...options);
        window.peers.unshift(this);
      }

      close() {
        super.close();
        // No call was made with it: the client has only tried whether one can be.
        if (!this.localDescription && !this.remoteDescription) window.peers = window.peers.filter((peer) => peer !== this);
      }
    };
  });
  await context.addInitScript(before);
  if (process.env.FILES) await fromFiles(context);
  return context;
}

/** @param {import('playwright-core').BrowserContext} user @param {string} url */
export async function tab(user, url) {
  const page = await user.newPage();
  page.complaints = [];
  const complains = (text) => {
    page.complaints.push(text);
    if (!isOver) user.browser().complaints.push(text);
  };
  page.on('console', (message) => message.type() === 'error' && complains(message.text()));
  page.on('pageerror', (error) => complains(String(error)));
  const did = [];
  const notes = (what) => did.push(`${new Date().toISOString()} ${what}`);
  page.on('request', (request) => notes(`asks ${request.method()} ${request.url()}`));
  page.on('requestfailed', (request) => notes(`fails ${request.url()}: ${request.failure()?.errorText}`));
  page.on('websocket', (socket) => {
    notes('opens a WebSocket');
    for (const event of ['socketerror', 'close']) socket.on(event, (error) => notes(`WebSocket: ${event} ${typeof error === 'string' ? error : ''}`));
  });
  user.browser().tabs.push({ page, did });
  await page.goto(url);
  return page;
}

/** Waits for a state of the page. @param {import('playwright-core').Page} page @param {string} state */
export const state = (page, state, patience = PATIENCE) => page.waitForSelector(`body[data-state="${state}"]`, { timeout: patience });

/** Two who talk. @param {import('playwright-core').Browser} browser @param {string} url @param {string} [other] */
export async function talking(browser, url, other = url) {
  const pages = [await open(browser, url), await open(browser, other)];
  for (const page of pages) await page.click('#talk');
  for (const page of pages) await state(page, 'call');
  return pages;
}

/** What is said here arrives there. */
export async function says(page, other, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
  await until(`${text} arrives`, () => other.evaluate((text) => [...document.querySelectorAll('#log :is(p,li).other')].some((line) => line.textContent.endsWith(text)), text));
}

/** How much has been heard of each other user, as energy. @param {import('playwright-core').Page} page @returns {Promise<number[]>} */
export async function heard(page) {
  return page.evaluate(() => Promise.all(window.peers.filter(({ connectionState }) => connectionState !== 'closed').map(async (peer) => {
    const stats = await peer.getStats();
    return [...stats.values()].find(({ type }) => type === 'inbound-rtp')?.totalAudioEnergy ?? 0;
  })));
}

/** The sound of all others goes on, and the page plays each of them. */
export async function hears(page, patience = PATIENCE) {
  const before = await heard(page);
  if (!before.length) throw new Error('there is no call');
  await until('all are heard', async () => (await heard(page)).every((energy, i) => energy > before[i]), patience);
  await until('all are played', () => page.evaluate((count) => {
    const playing = [...document.querySelectorAll('audio')].filter(({ srcObject }) => srcObject);
    return playing.length === count && playing.every(({ paused, muted, currentTime }) => !paused && !muted && currentTime > 0);
  }, before.length), patience);
}

/** The way on which a page is to be reached: another one after each ICE restart. @param {import('playwright-core').Page} page @returns {Promise<string>} */
export const way = (page) => page.evaluate(() => /a=ice-ufrag:(\S+)/.exec(window.peers[0].localDescription.sdp)[1]);

/** Begins a transcription session that all may join. Returns the host's token. @param {Server} server @param {string} slug */
export async function transcribed(server, slug) {
  const response = await fetch(`${server.admin}/api/sessions`, { method: 'POST', body: JSON.stringify({ slug, open: true }) });
  const answer = await response.json();
  if (response.status !== 201) throw new Error(JSON.stringify(answer));
  return answer.host_token;
}
