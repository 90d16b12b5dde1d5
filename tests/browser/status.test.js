/** The status page at the admin address, for people. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine, Server, browser, open, until } from './support.js';

/** What the server refuses, each in its own way: more than the page has lines for. */
const WRONG = [
  { type: 'nonsense' }, { type: 'join_room', room: 'no name' }, { type: 'offer' }, { type: 'renew_token', token: 'x' }, { type: 'block' },
  { type: 'message', payload: 1 }, { type: 'find_match' }, { type: 'find_match' },
];

/** Somebody who polls, does all of it wrong, and goes. @param {Server} server */
async function doWrong({ url }) {
  const { messages: [{ resume_token: token }] } = await (await fetch(`${url}/poll?wait=0`)).json();
  const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` };
  for (const [number, message] of WRONG.entries()) {
    await fetch(`${url}/send`, { method: 'POST', headers, body: JSON.stringify({ ...message, seq: number + 1 }) });
  }
  await fetch(`${url}/poll?wait=0`, { headers: { Origin: 'https://other.example' } });
}

test('the status page is one screen, however much there is to tell', async (t) => {
  const engine = await Engine.start(t);
  const [server] = await Promise.all([1, 2].map(() => Server.start(t, ['--cluster', `redis://127.0.0.1:${engine.port}`])));
  await until('it knows the other', async () => (await server.metric('cluster_nodes{state="alive"}')) === 1);
  await doWrong(server);
  const page = await open(await browser(t), server.admin, { viewport: { width: 1280, height: 800 } });
  const fullest = await page.evaluate(() => Math.max(...[...document.querySelectorAll('tbody')].map(({ rows }) => rows.length)));
  assert.equal(fullest, 5, 'the lines of a table that is full');
  const { needed, seen } = await page.evaluate(() => ({ needed: document.documentElement.scrollHeight, seen: window.innerHeight }));
  assert.ok(needed <= seen, `${needed} px, and ${seen} are seen`);
});
