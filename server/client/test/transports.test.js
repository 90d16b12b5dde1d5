/** What carries a session without WebSocket, against a server of the test's own that breaks off in the middle of an answer. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { transports } from '../client/transports.js';

const SESSION = { type: 'session', session_id: 'a1', resume_token: 'T1' };

/** A link of this kind to a server that breaks off each answer to this path. @returns {Promise<{sent: number, losses: unknown[][]}>} */
async function breaksOff(t, kind, path) {
  let sent = 0;
  const server = createServer((request, response) => {
    const asked = new URL(request.url, 'http://x').pathname;
    if (asked === '/send') sent++;
    if (asked === path) {
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': 1000 });
      response.write('{"received":', () => response.destroy());
    } else if (asked === '/events') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.write(`event: session\ndata: ${JSON.stringify(SESSION)}\n\n`);
    } else if (asked === '/poll' && sent === 0) response.end(JSON.stringify({ messages: [SESSION], received: 0, poll_after_ms: 0 }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const losses = [];
  await new Promise((lost) => {
    const link = transports[kind]({ url: `http://127.0.0.1:${server.address().port}`, token: '', after: 0, access: '' }, {
      message: ({ type }) => type === 'session' && link.write([{ type: 'message', seq: 1 }]),
      lost: (...why) => lost(losses.push(why)),
    });
  });
  return { sent, losses };
}

for (const kind of ['sse', 'poll']) {
  test(`${kind}: an answer to what was sent that breaks off is a loss, once`, async (t) => {
    assert.deepEqual(await breaksOff(t, kind, '/send'), { sent: 1, losses: [[]] });
  });
}

test('the last words of a page that is closed take with them what has not been sent yet', async (t) => {
  /** @type {import('node:http').Server} */ let server;
  const lastWords = new Promise((resolve) => {
    server = createServer(async (request, response) => {
      const isFirst = request.url === '/poll?wait=0&after=0';
      if (isFirst) return response.end(JSON.stringify({ messages: [SESSION], received: 0, poll_after_ms: 0 }));
      // What is sent first is never answered, nor are polls.
      const body = Buffer.concat(await request.toArray().catch(() => [])).toString();
      if (body.includes('leave')) resolve(JSON.parse(body).messages);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const begun = new Promise((begins) => {
    const link = transports.poll({ url: `http://127.0.0.1:${server.address().port}`, token: '', after: 0, access: '' }, {
      message: ({ type }) => type === 'session' && begins(link),
      lost: () => {},
    });
  });
  const link = await begun;
  link.write([{ type: 'message', seq: 1 }]);
  link.write([{ type: 'call_report', seq: 2 }]);
  link.write([{ type: 'leave' }]);
  link.shut();
  assert.deepEqual((await lastWords).map(({ type }) => type), ['message', 'call_report', 'leave']);
});

test('who is cut off from two polls asks more often, and not without a pause', async (t) => {
  t.mock.timers.enable({ apis: ['Date'] });
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(new URL(request.url, 'http://x').searchParams.get('wait'));
    if (asked.length === 1) return response.end(JSON.stringify({ messages: [SESSION], received: 0, poll_after_ms: 0 }));
    if (asked.at(-1) === '0') return response.writeHead(304).end();
    // As a proxy does that holds no request for long.
    t.mock.timers.tick(2500);
    response.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const link = transports.poll({ url: `http://127.0.0.1:${server.address().port}`, token: '', after: 0, access: '' }, { message() {}, lost() {} });
  t.after(() => {
    link.shut();
    server.close();
    server.closeAllConnections();
  });
  while (asked.length < 5) await once(server, 'request');
  assert.deepEqual(asked, ['0', '6', '0', '6', '0']);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(asked.length, 5, 'a pause');
  await once(server, 'request');
  assert.equal(asked.at(-1), '0');
});

test('a poll that breaks off is a loss', async (t) => {
  assert.deepEqual(await breaksOff(t, 'poll', '/poll'), { sent: 0, losses: [[]] });
});
