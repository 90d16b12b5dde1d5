/** From the click that makes a match to the first sound of the partner, and where the time goes: node speed.js [CALLS], by default 50.
 * Beside it, in the same run, from the match to the sound: the client in a page that shows nothing, and a page without it.
 * With FILES=1 the pages take client and page from the working copy in place of what the server has been built with. */
import { Server, browser, open, state, until } from './support.js';

const calls = Number(process.argv[2] ?? 50);
/** What ends at the end. */
const ends = [];
const t = { after: (end) => ends.unshift(end) };

/** In the page: notes when what first happens, in milliseconds of the clock that all pages share. */
function watch() {
  const now = () => performance.timeOrigin + performance.now();
  const mark = (name) => (window.marks[name] ??= now());
  window.marks = {};
  const { mediaDevices } = navigator;
  const ask = mediaDevices.getUserMedia.bind(mediaDevices);
  mediaDevices.getUserMedia = async (wanted) => {
    mark('microphone asked for');
    const stream = await ask(wanted);
    mark('microphone open');
    return stream;
  };
  window.WebSocket = class extends WebSocket {
    constructor(...options) {
      super(...options);
      this.addEventListener('message', ({ data }) => mark(`got ${JSON.parse(data).type}`));
    }

    send(text) {
      mark(`sent ${JSON.parse(text).type}`);
      super.send(text);
    }
  };
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...options) {
      super(...options);
      this.addEventListener('iceconnectionstatechange', () => this.iceConnectionState === 'connected' && mark('ice'));
      this.addEventListener('connectionstatechange', () => {
        if (this.connectionState !== 'connected') return;
        mark('dtls');
        this.#listen();
      });
      this.addEventListener('negotiationneeded', () => mark('negotiation'));
      this.addEventListener('track', ({ track }) => track.addEventListener('unmute', () => mark('first packet')));
    }

    addTrack(...what) {
      mark('connection made');
      return super.addTrack(...what);
    }

    async #listen() {
      while (this.connectionState !== 'closed') {
        const stats = [...(await this.getStats()).values()].find(({ type }) => type === 'inbound-rtp');
        if (stats?.totalAudioEnergy > 0) return mark('first sound');
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }
  };
}

/** @param {import('playwright-core').Page} page */
const forget = (page) => page.evaluate(() => {
  window.marks = {};
});

/** One waits, the other clicks: when what came about, in milliseconds from that click. */
async function call(one, other) {
  for (const page of [one, other]) await forget(page);
  await one.click('#talk');
  await until('one waits', async () => (await one.evaluate(() => window.marks['got waiting'])) !== undefined);
  const began = await other.evaluate(() => {
    const began = performance.timeOrigin + performance.now();
    document.getElementById('talk').click();
    return began;
  });
  for (const page of [one, other]) await until('sound', async () => (await page.evaluate(() => window.marks['first sound'])) !== undefined);
  const [theirs, own] = [await one.evaluate(() => window.marks), await other.evaluate(() => window.marks)];
  const [maker, taker] = own['sent offer'] ? [own, theirs] : [theirs, own];
  const steps = {
    'session': own['got session'],
    'microphone': own['microphone open'],
    'find_match sent': own['sent find_match'],
    'match': own['got match_found'],
    'connection made': maker['connection made'],
    'negotiation': maker['negotiation'],
    'offer sent': maker['sent offer'],
    'offer there': taker['got offer'],
    'answer sent': taker['sent answer'],
    'answer there': maker['got answer'],
    'candidates there': Math.min(...[own, theirs].map((marks) => marks['got ice_candidate'] ?? Infinity)),
    'ICE': own['ice'],
    'DTLS': own['dtls'],
    'first packet': own['first packet'],
    'first sound': own['first sound'],
  };
  await other.click('#leave');
  for (const page of [one, other]) await state(page, 'idle');
  return Object.fromEntries(Object.entries(steps).filter(([, at]) => at !== undefined).map(([name, at]) => [name, at - began]));
}

/** In a page: what one would write without the client, for networks and users that never fail. */
async function bare() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const socket = new WebSocket(`ws://${location.host}/ws`);
  const audio = document.createElement('audio');
  const post = (type, payload) => socket.send(JSON.stringify({ type, payload }));
  /** @type {RTCPeerConnection} */ let peer;
  const answers = {
    match_found({ initiator }) {
      peer = new RTCPeerConnection();
      stream.getTracks().forEach((track) => peer.addTrack(track, stream));
      peer.onicecandidate = ({ candidate }) => candidate && post('ice_candidate', candidate);
      peer.ontrack = ({ streams: [theirs] }) => {
        audio.srcObject = theirs;
        audio.play();
      };
      if (initiator) return peer.setLocalDescription().then(() => post('offer', peer.localDescription));
    },
    async offer({ payload }) {
      await peer.setRemoteDescription(payload);
      await peer.setLocalDescription();
      post('answer', peer.localDescription);
    },
    answer: ({ payload }) => peer.setRemoteDescription(payload),
    ice_candidate: ({ payload }) => peer.addIceCandidate(payload),
    peer_left: () => peer.close(),
  };
  socket.addEventListener('message', ({ data }) => {
    const message = JSON.parse(data);
    answers[message.type]?.(message);
  });
  window.find = () => post('find_match');
  window.leave = () => {
    peer.close();
    post('leave_room');
  };
  await new Promise((resolve) => (socket.onopen = resolve));
}

/** In a page: the client, and nothing to be seen. */
async function alone() {
  const { connect } = await import('/client.js');
  const vm = await connect();
  await vm.microphone.open();
  const audio = document.createElement('audio');
  window.find = async () => {
    const call = await vm.find();
    window.leave = () => call.leave();
    call.play(audio);
  };
}

/** One waits, the other comes: the time from the match to the sound. */
async function plainCall(one, other) {
  for (const page of [one, other]) await forget(page);
  await one.evaluate(() => void window.find());
  await until('one waits', async () => (await one.evaluate(() => window.marks['got waiting'])) !== undefined);
  await other.evaluate(() => void window.find());
  for (const page of [one, other]) await until('sound', async () => (await page.evaluate(() => window.marks['first sound'])) !== undefined);
  const marks = await other.evaluate(() => window.marks);
  await other.evaluate(() => window.leave());
  return marks['first sound'] - marks['got match_found'];
}

const percentile = (values, p) => values.toSorted((a, b) => a - b)[Math.ceil(values.length * p) - 1];

function print(title, all) {
  console.log(`${title}: milliseconds from the click (${all.length} calls)`);
  for (const name of Object.keys(all[0])) {
    const values = all.map((steps) => steps[name]);
    const told = [percentile(values, 0.5), percentile(values, 0.95), Math.max(...values)].map((ms) => ms.toFixed(0).padStart(6));
    console.log(`  ${name.padEnd(18)} p50${told[0]}  p95${told[1]}  most${told[2]}`);
  }
}

try {
  const server = await Server.start(t, ['--avoid-partner-for', '0s']);
  const chromium = await browser(t);
  const pages = [];
  for (let i = 0; i < 2; i++) pages.push(await open(chromium, server.url, {}, watch));
  const [one, other] = pages;
  /** Two pages of this server that show nothing, and do this. */
  const plain = async (what) => {
    const pages = [];
    for (let i = 0; i < 2; i++) {
      const page = await open(chromium, `${server.url}/health`, {}, watch);
      // It may play from then on.
      await page.click('body');
      await page.evaluate(what);
      pages.push(page);
    }
    return pages;
  };
  const [clients, bares] = [await plain(alone), await plain(bare)];
  const first = [];
  const later = [];
  const withoutPage = [];
  const withoutClient = [];
  for (let i = 0; i < calls; i++) {
    await other.reload();
    first.push(await call(one, other));
    later.push(await call(one, other));
    withoutPage.push(await plainCall(...clients));
    withoutClient.push(await plainCall(...bares));
  }
  print('The first click of a page: no session, no microphone', first);
  print('Each further click', later);
  console.log('From the match to the first sound, of further clicks:');
  const all = { 'the page': later.map((steps) => steps['first sound'] - steps.match), 'the client alone': withoutPage, 'without the client': withoutClient };
  for (const [name, times] of Object.entries(all)) {
    const [middle, late] = [0.5, 0.95].map((p) => percentile(times, p).toFixed(0).padStart(6));
    console.log(`  ${name.padEnd(18)} p50${middle}  p95${late}  ratio ${(percentile(times, 0.5) / percentile(withoutClient, 0.5)).toFixed(2)}`);
  }
} finally {
  for (const end of ends) await end();
}
