/** The client module in Node.js, where a test can look at every message: nothing is lost, doubled or out of order. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from '../../server/client/client.js';
import { Engine, Server, Tunnel, atEnd, until } from './support.js';

/** Two in a room, each by a transport. */
async function pair(t, [url, transports], [otherUrl, otherTransports]) {
  const sessions = [await connect(url, { transports }), await connect(otherUrl, { transports: otherTransports })];
  for (const vm of sessions) atEnd(t, () => vm.close());
  const calls = await Promise.all(sessions.map((vm) => vm.find()));
  return { sessions, calls };
}

/** Both count aloud until they are stopped; then each has heard all numbers of the other, once and in order. */
function counting(calls) {
  const heard = calls.map((call) => {
    const numbers = [];
    call.addEventListener('message', ({ detail }) => numbers.push(detail.data));
    return numbers;
  });
  let stopped = false;
  const counts = calls.map(async (call) => {
    let number = 0;
    const sent = [];
    while (!stopped) {
      sent.push(call.send(number++));
      await new Promise((resolve) => setTimeout(resolve, 25));
      // As an app would: no more than can wait.
      if (number % 32 === 0) await Promise.all(sent);
    }
    await Promise.all(sent);
    return number;
  });
  return async () => {
    stopped = true;
    const [one, other] = await Promise.all(counts);
    await until('all is heard', () => heard[0].length >= other && heard[1].length >= one);
    assert.deepEqual(heard[0], [...Array(other).keys()]);
    assert.deepEqual(heard[1], [...Array(one).keys()]);
    return one + other;
  };
}

for (const transports of [['sse'], ['poll'], ['sse', 'poll']]) {
  test(`${transports} that breaks again and again`, async (t) => {
    const server = await Server.start(t);
    const tunnel = await Tunnel.start(t, server.port);
    const { calls } = await pair(t, [tunnel.url, transports], [server.url, ['sse']]);
    const stop = counting(calls);
    for (let i = 0; i < 10; i++) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      tunnel.cut();
    }
    t.diagnostic(`${await stop()} messages`);
  });
}

test('a server that is killed', async (t) => {
  const server = await Server.start(t);
  const { calls, sessions } = await pair(t, [server.url, ['sse']], [server.url, ['poll', 'sse']]);
  const stop = counting(calls);
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    await server.restart();
    for (const vm of sessions) await until('it is there again', () => vm.state === 'open');
  }
  t.diagnostic(`${await stop()} messages`);
  assert.ok(calls.every((call) => !call.ended));
});

test('a new version takes the place of the server', async (t) => {
  const server = await Server.start(t, ['--drain-timeout', '2s']);
  server.flags.push('--hand-over', join(server.state, 'hand-over.sock'));
  await server.restart();
  const { calls, sessions } = await pair(t, [server.url, ['sse']], [server.url, ['sse']]);
  const stop = counting(calls);
  for (let i = 0; i < 2; i++) {
    const former = server.process;
    atEnd(t, () => former.kill('SIGKILL'));
    await server.run(server.port);
    const [code] = former.exitCode === null ? await once(former, 'exit') : [former.exitCode];
    assert.equal(code, 0);
    for (const vm of sessions) await until('it is there again', () => vm.state === 'open');
  }
  t.diagnostic(`${await stop()} messages`);
  assert.ok(calls.every((call) => !call.ended));
});

test('one server of several after the other is drained', async (t) => {
  const engine = await Engine.start(t);
  const flags = ['--cluster', `redis://127.0.0.1:${engine.port}`, '--drain-timeout', '8s'];
  const servers = await Promise.all([1, 2, 3].map(() => Server.start(t, flags)));
  for (const server of servers) await until('it knows the others', async () => (await server.metric('cluster_nodes{state="alive"}')) === 2);
  const [last, ...drained] = servers;
  const ways = await Promise.all(drained.map(({ port }) => Tunnel.start(t, port)));
  const { calls, sessions } = await pair(t, [ways[0].url, ['sse']], [ways[1].url, ['sse']]);
  const stop = counting(calls);
  for (const [i, server] of drained.entries()) {
    const told = once(sessions[i], 'draining');
    server.process.kill('SIGTERM');
    // As a balancer does, which sees after a moment that it is not ready: until then users come back to it.
    await told;
    await until('it is tried again', () => sessions[i].state === 'reconnecting');
    ways[i].port = last.port;
    const [code] = await once(server.process, 'exit');
    assert.equal(code, 0);
    for (const vm of sessions) await until('it is there again', () => vm.state === 'open');
  }
  t.diagnostic(`${await stop()} messages`);
  assert.ok(calls.every((call) => !call.ended));
});

test('every promise ends', async (t) => {
  const server = await Server.start(t);
  const code = (wanted) => (error) => error.code === wanted;
  const vm = await connect(server.url, { media: false });
  const first = vm.find();
  await assert.rejects(vm.find(), code('already_waiting'));
  const rejected = assert.rejects(first, code('closed'));
  vm.close();
  await rejected;
  await assert.rejects(vm.find(), code('closed'));
  await assert.rejects(vm.ping(), code('closed'));
  await assert.rejects(connect('http://127.0.0.1:1', { media: false }), code('lost'));

  const aborted = new AbortController();
  const other = await connect(server.url, { media: false });
  atEnd(t, () => other.close());
  const search = other.find({ signal: aborted.signal });
  aborted.abort();
  await assert.rejects(search, { name: 'AbortError' });
  await assert.rejects(other.join('no such name!'), code('bad_room_name'));
  // The server ends before it answers, and another session begins: what was asked is asked again, what was said is not said again.
  const dies = async (unanswered) => {
    server.process.kill('SIGSTOP');
    const answer = unanswered();
    server.kill();
    await server.restart();
    return answer;
  };
  const room = await dies(() => other.join('tea'));
  await assert.rejects(other.join('coffee'), code('already_in_room'));
  assert.equal(await other.join('tea'), room);
  await dies(() => assert.rejects(room.send('who hears it?'), code('lost')));
  const ended = once(room, 'ended');
  const listening = (async () => {
    for await (const message of room.messages()) assert.fail(message);
  })();
  server.kill();
  const sent = Array.from({ length: 70 }, () => room.send('into the void'));
  const unsent = Promise.allSettled(sent);
  // The first that fails is one too many: the others wait for a server.
  await assert.rejects(Promise.all(sent), code('too_much_unsent'));
  other.close();
  await ended;
  await listening;
  const results = await unsent;
  assert.ok(results.every(({ status }) => status === 'rejected'));
  // One or two may have been on their way.
  assert.ok(results.filter(({ reason }) => reason.code === 'too_much_unsent').length >= 70 - 64);
});
