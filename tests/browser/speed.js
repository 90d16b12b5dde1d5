/** From the click that makes a match to the first sound of the partner: node speed.js [CALLS], by default 50. */
import { Server, browser, open, state, until } from './support.js';

const calls = Number(process.argv[2] ?? 50);
/** What ends at the end. */
const ends = [];
const t = { after: (end) => ends.unshift(end) };

/** Clicks, and waits for the sound of a new partner; milliseconds to the match, to the connection, to the sound. */
const call = (page) => page.evaluate(async () => {
  const former = window.peers[0];
  const began = performance.now();
  const since = () => performance.now() - began;
  const pause = () => new Promise((resolve) => setTimeout(resolve, 2));
  document.getElementById('talk').click();
  while (window.peers[0] === former) await pause();
  const matched = since();
  const [pc] = window.peers;
  while (pc.connectionState !== 'connected') await pause();
  const connected = since();
  for (;;) {
    const stats = [...(await pc.getStats()).values()].find(({ type }) => type === 'inbound-rtp');
    if (stats?.totalAudioEnergy > 0) return [matched, connected, since()];
    await pause();
  }
});

const percentile = (values, p) => values.toSorted((a, b) => a - b)[Math.ceil(values.length * p) - 1];

try {
  const server = await Server.start(t, ['--avoid-partner-for', '0s']);
  const chromium = await browser(t);
  const [one, other] = [await open(chromium, server.url), await open(chromium, server.url)];
  const all = [];
  for (let i = 0; i < calls; i++) {
    await one.click('#talk');
    await until('one waits', async () => (await one.getAttribute('body', 'data-state')) === 'waiting');
    all.push(await call(other));
    await other.click('#leave');
    for (const page of [one, other]) await state(page, 'idle');
  }
  for (const [i, name] of ['match', 'connected', 'first sound'].entries()) {
    const values = all.map((times) => times[i]);
    console.log(`click to ${name.padEnd(12)} p50 ${percentile(values, 0.5).toFixed(0)} ms, p95 ${percentile(values, 0.95).toFixed(0)} ms, most ${Math.max(...values).toFixed(0)} ms (${calls} calls)`);
  }
} finally {
  for (const end of ends) await end();
}
