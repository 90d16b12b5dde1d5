/** Which transport carries a session, and what is sent again: with a clock and a network of the test's own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Session } from '../client/session.js';

const SESSION = { type: 'session', session_id: 'a1', resume_token: 'T1', heartbeat_ms: 25_000, ice_servers: [], limits: {} };
const RESUMED = { type: 'resumed', session_id: 'a1', resume_token: 'T2', epoch: 2, after: 0, received: 0, replay: 0, place: 'idle', ice_servers: [] };

/** A session, and what it has asked for. */
class Bench {
  now = 0;
  timers = new Map();
  opened = [];
  /** What each of them, by its number from 1 on, can say. */ heard = [];
  written = [];
  delivered = [];
  shut = new Set();
  ended = '';
  renewed = 0;
  hurried = false;

  constructor(kinds = ['ws', 'sse', 'poll']) {
    this.session = new Session(kinds, {
      open: (kind, token, after, heard) => {
        const link = this.heard.push(heard);
        this.opened.push({ link, kind, token, after, at: this.now });
        return {
          write: (requests) => this.written.push(...requests.map((request) => ({ link, ...request }))),
          shut: () => this.shut.add(link),
        };
      },
      wait: (name, ms) => (ms === undefined ? this.timers.delete(name) : this.timers.set(name, this.now + ms)),
      calm: () => this.timers.clear(),
      deliver: (message) => this.delivered.push(message),
      now: () => this.now,
      hurry: () => this.hurried,
      anew: () => this.renewed++,
      changed: () => {},
      end: (reason) => (this.ended = reason),
    }, () => 0.5);
    this.session.now();
  }

  get last() {
    return this.opened.at(-1);
  }

  hears(message, link = this.last.link) {
    this.heard[link - 1].message(message);
  }

  loses(code = 1006, reason = 'lost', link = this.last.link, retryAfter = 0) {
    this.heard[link - 1].lost(code, reason, retryAfter);
  }

  /** The link that carries the session is no passing success. */
  lasts() {
    this.passes(5_001);
  }

  /** Lets time pass; whatever is due happens at its time. */
  passes(ms) {
    const end = this.now + ms;
    for (;;) {
      const [due] = [...this.timers].filter(([, at]) => at <= end).sort((a, b) => a[1] - b[1]);
      if (!due) break;
      this.timers.delete(due[0]);
      this.now = due[1];
      this.session.timer(due[0]);
    }
    this.now = end;
  }
}

test('the first message opens a transport, and not the connection', () => {
  const bench = new Bench();
  assert.equal(bench.session.state, 'connecting');
  bench.hears(SESSION);
  assert.deepEqual([bench.session.state, bench.session.transport], ['open', 'ws']);
});

test('a WebSocket that carries nothing is given up after a second, and an event stream after one and a half', () => {
  const bench = new Bench();
  bench.passes(10_000);
  assert.deepEqual(bench.opened.map(({ kind, at }) => [kind, at]), [['ws', 0], ['sse', 1000], ['poll', 2500]]);
  assert.ok(bench.shut.has(1) && bench.shut.has(2));
  assert.equal(bench.ended, 'lost');
});

test('a better way has five seconds while another one carries the session', () => {
  const bench = new Bench();
  bench.loses();
  bench.hears(SESSION);
  bench.passes(1_000);
  assert.deepEqual([bench.last.kind, bench.opened.length], ['ws', 3]);
  const { at } = bench.last;
  bench.passes(at + 4_999 - bench.now);
  assert.equal(bench.shut.has(3), false);
  bench.hears({ ...RESUMED, received: 0 });
  assert.equal(bench.session.transport, 'ws');
});

test('who is refused at the first try hears why', () => {
  const bench = new Bench();
  bench.loses();
  bench.loses(503, 'server_full');
  bench.loses(503, 'server_full');
  assert.equal(bench.ended, 'server_full');
  const banned = new Bench(['sse', 'poll']);
  banned.loses(403, 'banned');
  assert.deepEqual([banned.ended, banned.opened.length], ['banned', 1]);
});

test('a lost connection is carried on with the token and behind the last message, and what is not confirmed is sent again', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.hears({ type: 'waiting', seq: 1 });
  for (const type of ['one', 'two', 'three']) bench.session.send({ type });
  bench.hurried = true;
  bench.written.length = 0;
  bench.lasts();
  bench.loses();
  assert.deepEqual(bench.last, { link: 2, kind: 'ws', token: 'T1', after: 1, at: bench.now });
  bench.session.send({ type: 'four' });
  assert.deepEqual(bench.written, []);
  bench.hears({ ...RESUMED, received: 1 });
  assert.deepEqual(bench.written.map(({ type, seq }) => [type, seq]), [['two', 2], ['three', 3], ['four', 4]]);
  bench.hears({ type: 'match_found', seq: 1 });
  bench.hears({ type: 'match_found', seq: 2 });
  assert.equal(bench.delivered.filter(({ type }) => type === 'match_found').length, 1);
});

test('who is in no room waits a little, so that not all come at once', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.lasts();
  bench.loses();
  assert.equal(bench.opened.length, 1);
  bench.passes(200);
  assert.equal(bench.opened.length, 2);
});

test('an event stream bridges, and WebSocket is tried again behind it: four times, and after two minutes', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.hurried = true;
  bench.lasts();
  bench.loses();
  bench.loses();
  assert.equal(bench.last.kind, 'sse');
  const bridge = bench.last.link;
  const began = bench.now;
  bench.hears(RESUMED);
  assert.equal(bench.session.transport, 'sse');
  const tries = [];
  while (bench.now < began + 200_000) {
    bench.hears({ type: 'ping', received: 0, next_ms: 7000 }, bridge);
    bench.passes(10);
    if (bench.last.kind === 'ws' && bench.last.link > bridge && tries.at(-1)?.link !== bench.last.link) {
      tries.push(bench.last);
      bench.loses();
    }
  }
  const times = tries.map(({ at }) => at - began);
  assert.deepEqual(times.map((time) => Math.round(time / 500) / 2), [0.5, 1.5, 3.5, 7.5, 127.5, 157.5, 187.5]);
  assert.equal(times.filter((time) => time < 30_000).length, 4);
  assert.equal(times.filter((time) => time > 30_000 && time < 120_000).length, 0);
});

/** An event stream carries the session, and a WebSocket is being tried. */
function behindBridge() {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.hurried = true;
  bench.loses();
  bench.loses();
  const bridge = bench.last.link;
  bench.hears(RESUMED);
  bench.passes(500);
  return { bench, bridge };
}

test('a WebSocket that opens behind a bridge takes over', () => {
  const { bench, bridge } = behindBridge();
  // The server tells the bridge first.
  bench.loses(4501, 'replaced', bridge);
  assert.equal(bench.ended, '');
  bench.hears({ ...RESUMED, resume_token: 'T3' });
  assert.equal(bench.session.transport, 'ws');
  bench.loses();
  assert.equal(bench.last.token, 'T3');
});

test('a WebSocket that is tried behind a bridge has as little time as any when the bridge is lost', () => {
  const { bench, bridge } = behindBridge();
  assert.deepEqual([bench.last.kind, bench.opened.length], ['ws', 4]);
  bench.loses(1006, 'lost', bridge);
  const lostAt = bench.now;
  bench.passes(10_000);
  assert.deepEqual([bench.opened[4].kind, bench.opened[4].at - lostAt], ['sse', 1000]);
});

test('another page that carries the session on ends it here', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.loses(4501, 'replaced');
  assert.deepEqual([bench.ended, bench.session.state], ['replaced', 'closed']);
  bench.passes(100_000);
  assert.equal(bench.opened.length, 1);
});

test('an attempt that was given up may come late, and takes nothing for good', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.hurried = true;
  bench.loses();
  bench.passes(1000);
  bench.hears(RESUMED);
  assert.equal(bench.session.transport, 'sse');
  // By the WebSocket, of which nothing has come.
  bench.loses(4501, 'replaced');
  assert.deepEqual([bench.ended, bench.session.state], ['', 'reconnecting']);
  bench.hears(RESUMED);
  bench.hears({ type: 'ping', received: 0, next_ms: 7000 });
  bench.loses(4501, 'replaced');
  assert.equal(bench.ended, 'replaced');
});

test('a session that is over is followed by another, in which all begins anew', () => {
  for (const [code, reason] of [[4502, 'resume_refused'], [4503, 'too_old'], [4000, 'draining'], [4507, 'resume_overflow'], [401, 'resume_refused']]) {
    const bench = new Bench();
    bench.hears(SESSION);
    bench.hurried = true;
    bench.session.send({ type: 'message' });
    bench.loses(code, reason);
    assert.equal(bench.last.token, '', reason);
    bench.hears({ ...SESSION, session_id: 'b2', resume_token: 'U1' });
    assert.deepEqual([bench.renewed, bench.written.filter(({ type }) => type === 'message').length], [1, 1]);
    bench.session.send({ type: 'rejoin' });
    assert.equal(bench.written.at(-1).seq, 1);
  }
});

test('from a server that drains another one takes the session over, and if none does another session begins', () => {
  for (const isTaken of [true, false]) {
    const bench = new Bench();
    bench.hears(SESSION);
    bench.hurried = true;
    bench.loses(4005, 'moved');
    assert.equal(bench.last.token, 'T1');
    // The proxy has not noticed yet, and leads back to the old one.
    bench.loses(4005, 'moved');
    assert.equal(bench.last.token, 'T1');
    if (isTaken) {
      bench.hears(RESUMED);
      assert.equal(bench.renewed, 0);
    } else {
      bench.loses(4502, 'resume_refused');
      assert.equal(bench.last.token, '');
      bench.hears({ ...SESSION, session_id: 'b2', resume_token: 'U1' });
      assert.equal(bench.renewed, 1);
    }
  }
});

test('silence is a loss three seconds after the ping that did not come', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.hurried = true;
  bench.hears({ type: 'ping', received: 0, next_ms: 7000 });
  assert.deepEqual(bench.written, [{ link: 1, type: 'pong', ack: 0 }]);
  bench.passes(9_999);
  assert.equal(bench.opened.length, 1);
  bench.passes(1);
  assert.deepEqual([bench.opened.length, bench.shut.has(1)], [2, true]);
});

test('the first ping of a link may take as long as the server has said', () => {
  const bench = new Bench();
  bench.hears({ ...SESSION, heartbeat_ms: 60_000 });
  bench.hears({ type: 'ping', received: 0, next_ms: 7000 });
  bench.hurried = true;
  bench.lasts();
  bench.loses();
  bench.hears({ type: 'resumed', received: 0 });
  bench.passes(62_999);
  assert.equal(bench.opened.length, 2);
  bench.passes(1);
  assert.equal(bench.shut.has(2), true);
});

test('a request without an answer for three seconds is a question, and that one without an answer is a loss', () => {
  for (const request of [{ type: 'find_match', id: 1 }, { type: 'ping', id: 1 }]) {
    const bench = new Bench();
    bench.hears(SESSION);
    bench.hurried = true;
    bench.session.send(request);
    bench.passes(2000);
    // Another request does not put it off.
    bench.session.send({ type: 'message', id: 2 });
    bench.passes(999);
    assert.equal(bench.written.filter(({ type, id }) => type === 'ping' && !id).length, 0);
    bench.passes(1);
    assert.equal(bench.written.filter(({ type, id }) => type === 'ping' && !id).length, 1);
    bench.passes(1499);
    assert.equal(bench.opened.length, 1);
    bench.passes(1);
    assert.deepEqual([bench.opened.length, bench.shut.has(1)], [2, true]);
  }
});

test('what is answered, or is of no request, asks nothing; what is sent again does', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.hurried = true;
  bench.session.send({ type: 'find_match', id: 1 });
  bench.passes(2999);
  bench.hears({ type: 'waiting', id: 1, seq: 1 });
  bench.session.send({ type: 'ice_candidate' });
  bench.passes(9000);
  assert.deepEqual(bench.written.map(({ type }) => type), ['find_match', 'ice_candidate']);
  bench.session.send({ type: 'message', id: 2 });
  bench.loses();
  bench.passes(900);
  bench.hears({ ...RESUMED, received: 1 });
  bench.written.length = 0;
  bench.passes(3000);
  assert.deepEqual(bench.written.map(({ type }) => type), ['ping']);
});

test('a question without an answer is a loss after one and a half seconds, and one with an answer is none', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.hurried = true;
  bench.session.probe();
  bench.hears({ type: 'pong' });
  bench.passes(5000);
  assert.equal(bench.opened.length, 1);
  bench.session.probe();
  bench.passes(1500);
  assert.equal(bench.opened.length, 2);
});

/** When a session is tried again that is refused each time, in milliseconds after the loss. */
function tries(hurried, ms) {
  const bench = new Bench(['ws']);
  bench.hears(SESSION);
  bench.hurried = hurried;
  bench.lasts();
  const began = bench.now;
  bench.loses();
  while (bench.now < began + ms) {
    bench.passes(10);
    if (bench.timers.has('trial')) bench.loses(503, 'server_full');
  }
  assert.equal(bench.session.state, 'reconnecting');
  return bench.opened.slice(1).map(({ at }) => at - began);
}

/** The time from each to the next one, in seconds. */
const gaps = (times) => times.slice(1).map((at, i) => Math.round((at - times[i]) / 100) / 10);

test('who is in a room is in a hurry for two minutes; then all wait longer and longer', () => {
  const times = tries(true, 300_000);
  const waits = gaps(times);
  assert.deepEqual(waits.slice(0, 6), [0.3, 0.5, 1, 2, 2, 2]);
  const calm = times.findIndex((at) => at > 122_000);
  assert.ok(waits.slice(4, calm - 1).every((wait) => wait === 2), `${waits}`);
  assert.deepEqual(waits.slice(calm - 1, calm + 5), [4, 8, 16, 30, 30, 30]);
  assert.deepEqual(gaps(tries(false, 120_000)), [0.3, 0.5, 1, 2, 4, 8, 16, 30, 30]);
});

test('links that are cut behind their first message are no success: the next transport is tried, and then all wait', () => {
  for (const [kinds, most] of [[['ws'], 65], [['ws', 'sse', 'poll'], 200]]) {
    const bench = new Bench(kinds);
    bench.hurried = true;
    bench.hears(SESSION);
    bench.loses();
    while (bench.now < 120_000) {
      bench.passes(10);
      if (!bench.timers.has('trial')) continue;
      bench.hears(RESUMED);
      bench.loses();
    }
    assert.ok(bench.opened.length < most, `${bench.opened.length} tries of ${kinds}`);
  }
  const bench = new Bench();
  bench.hurried = true;
  // A proxy lets an event stream live.
  for (let i = 0; i < 1000 && bench.now < 25_000; i++) {
    if (bench.last.kind === 'ws') {
      bench.hears(i ? RESUMED : SESSION);
      bench.loses();
    } else if (bench.timers.has('trial')) bench.hears(RESUMED);
    bench.passes(100);
  }
  assert.equal(bench.session.transport, 'sse');
  assert.ok(bench.opened.length <= 10, `${bench.opened.length} tries`);
});

test('each loss is fought in a hurry anew', () => {
  const bench = new Bench(['ws']);
  bench.hears(SESSION);
  bench.hurried = true;
  for (const [lasts, least] of [[200_000, 60], [100_000, 50]]) {
    bench.loses();
    const before = bench.opened.length;
    const began = bench.now;
    while (bench.now < began + lasts || !bench.timers.has('trial')) {
      if (bench.timers.has('trial')) bench.loses(503, 'server_full');
      bench.passes(10);
    }
    const tries = bench.opened.length - before;
    assert.ok(tries >= least, `${tries} tries in ${lasts} ms`);
    bench.hears(RESUMED);
  }
});

test('the server says when to come again', () => {
  const bench = new Bench(['sse']);
  bench.hears(SESSION);
  bench.hurried = true;
  bench.lasts();
  bench.loses();
  bench.loses(429, 'too_many_reconnects', bench.last.link, 9000);
  const tries = bench.opened.length;
  bench.passes(8900);
  assert.equal(bench.opened.length, tries);
  bench.passes(200);
  assert.equal(bench.opened.length, tries + 1);
});

test('a gap is filled', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  for (const type of ['one', 'two', 'three']) bench.session.send({ type });
  bench.written.length = 0;
  bench.hears({ type: 'error', code: 'gap', received: 1, seq: 1 });
  assert.deepEqual(bench.written.map(({ seq }) => seq), [2, 3]);
});

test('a transport that leaves out a message is lost', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.hurried = true;
  bench.hears({ type: 'waiting', seq: 2 });
  assert.deepEqual([bench.delivered.length, bench.opened.length, bench.last.after], [1, 2, 0]);
});

test('messages are confirmed now and then, and what is answered is forgotten', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  for (let seq = 1; seq <= 40; seq++) bench.hears({ type: 'message', seq });
  assert.deepEqual(bench.written, [{ link: 1, type: 'pong', ack: 32 }]);
  for (let id = 1; id <= 64; id++) bench.session.send({ type: 'message', id });
  assert.equal(bench.session.refuses({ type: 'message' }), 'too_much_unsent');
  bench.hears({ type: 'ack', id: 60, seq: 41 });
  assert.ok(!bench.session.refuses({ type: 'message' }));
});

test('a user who does not want to wait is tried for at once, and not twice', () => {
  const bench = new Bench(['ws']);
  bench.hears(SESSION);
  bench.session.now();
  assert.equal(bench.opened.length, 1, 'nothing is lost yet');
  bench.hurried = true;
  bench.loses();
  for (let i = 0; i < 6; i++) {
    bench.loses();
    bench.passes(2000);
  }
  bench.loses();
  const before = bench.opened.length;
  bench.session.now();
  assert.deepEqual([bench.opened.length, bench.last.at], [before + 1, bench.now]);
  bench.session.now();
  assert.equal(bench.opened.length, before + 1, 'one try is under way');
  // And from then on as after a loss that is new.
  bench.loses();
  bench.passes(250);
  assert.equal(bench.opened.length, before + 2);
  bench.loses();
  bench.session.now();
  bench.hears(RESUMED);
  bench.passes(5000);
  assert.equal(bench.opened.length, before + 3, 'the wait that was cut short is over');
});

test('a session that is closed says goodbye, and nothing happens afterwards', () => {
  const bench = new Bench();
  bench.hears(SESSION);
  bench.session.close();
  assert.deepEqual([bench.written.at(-1).type, bench.ended, bench.shut.has(1)], ['leave', 'closed', true]);
  bench.hears({ type: 'waiting', seq: 1 });
  bench.passes(1_000_000);
  bench.session.now();
  bench.session.probe();
  assert.deepEqual([bench.delivered.length, bench.opened.length], [1, 1]);
});
