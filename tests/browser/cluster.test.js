/** Pages at several servers that are one service. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../server/client/client.js';
import { Engine, Server, Tunnel, atEnd, browser, hears, says, talking, until } from './support.js';

/** @param {import('node:test').TestContext} t @param {number[]} engines The port at which each finds the engine. */
async function cluster(t, engines) {
  const servers = await Promise.all(engines.map((port) => Server.start(t, ['--cluster', `redis://127.0.0.1:${port}`])));
  const others = engines.length - 1;
  for (const server of servers) await until('it knows the others', async () => (await server.metric('cluster_nodes{state="alive"}')) === others);
  return servers;
}

/** What changes when two agree on their call anew. */
const agreed = (page) => page.evaluate(() => /a=ice-ufrag:(\S+)/.exec(window.peers[0].remoteDescription.sdp)[1]);

test('pages at two servers talk, and agree anew when the servers have lost what they said', async (t) => {
  const engine = await Engine.start(t);
  const network = await Tunnel.start(t, engine.port);
  const [near, far] = await cluster(t, [engine.port, network.server.address().port]);
  const pages = await talking(await browser(t), near.url, far.url);
  const [one, other] = pages;
  await hears(one);
  await hears(other);
  await says(one, other, 'hello');
  await says(other, one, 'hello');
  const remote = await Promise.all([near, far].map((server) => server.metric('matches_total{pool="anyone",reach="remote"}')));
  assert.deepEqual(remote.sort(), [0, 1], 'a match counts once');
  const before = await agreed(other);

  // Two others say more than a server keeps for another one, and none of it comes.
  const talkers = await Promise.all([near, far].map(({ url }) => connect(url, { media: false })));
  for (const talker of talkers) atEnd(t, () => talker.close());
  const [call] = await Promise.all(talkers.map((talker) => talker.find()));
  network.mode = 'hole';
  for (let number = 0; number < 60; number++) await call.send([number, 'x'.repeat(8_000)]);
  network.cut('through');

  await until('they have agreed anew', async () => (await agreed(other)) !== before);
  assert.ok((await far.metric('bus_gaps_total{result="lost"}')) >= 1);
  await hears(one);
  await hears(other);
  await says(one, other, 'hello again');
  await says(other, one, 'hello again');
});

test('the server of one of two is killed: the call goes on, and the chat heals at another one', async (t) => {
  const engine = await Engine.start(t);
  const [one, other, third] = await cluster(t, [engine.port, engine.port, engine.port]);
  const way = await Tunnel.start(t, one.port);
  const [first, second] = await talking(await browser(t), way.url, other.url);
  await hears(first);
  await says(first, second, 'before');
  way.port = third.port;
  one.kill();
  const killed = Date.now();
  await says(first, second, 'after');
  t.diagnostic(`chat: ${Date.now() - killed} ms after the kill`);
  await says(second, first, 'after all');
  await hears(first);
  await hears(second);
  assert.equal(await second.locator('#log p.note').count(), 0);
});
