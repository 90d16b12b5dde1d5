// Sends messages back, but for the faults that the command line asks for. What it did is in its tally.
import { listen, options } from "./listen.js";

const share = { type: "string", default: "0" }; // of the messages, from 0 to 1
const ms = { type: "string", default: "0" };
const given = options({
  drop: share,
  duplicate: share,
  misroute: share, // to another client
  alter: share,
  unanswered: share, // of the calls, which are the messages with an id
  wrong: share, // of the calls: answers with an error
  destroy: share, // ends the connection without a close frame
  delay: ms,
  jitter: ms, // up to so much more; messages stay in order
  stall: ms, // blocks everything once, for so long ...
  after: ms, // ... so long after the first message
});
const tally = {
  connections: 0,
  refused: 0,
  text: 0,
  binary: 0,
  calls: 0,
  dropped: 0,
  duplicated: 0,
  misrouted: 0,
  altered: 0,
  unanswered: 0,
  wrong: 0,
  destroyed: 0,
  stalled_ms: 0,
};

/** Whether this message has the fault: as often as asked, but at no regular distance. */
const due = {};
function hit(fault) {
  due[fault] = (due[fault] ?? 0) + 2 * Math.random() * Number(given[fault]);
  if (due[fault] < 1) return false;
  due[fault] -= 1;
  return true;
}

function stall() {
  const begin = Date.now();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(given.stall));
  tally.stalled_ms += Date.now() - begin;
}

/** The id and name of a call. */
const call = (data, binary) => (binary ? null : /"id":"(vm\w+)"/.exec(data)?.[1]);

function answer(client, clients, data, binary) {
  const id = call(data, binary);
  const send = (to, bytes) => to.send(bytes, { binary });
  const did = (what) => (tally[what] += 1);
  if (id) did("calls");
  if (id && hit("unanswered")) return did("unanswered");
  if (id && hit("wrong")) {
    did("wrong");
    return send(client, JSON.stringify({ type: "error", id, message: "no such tool" }));
  }
  if (hit("drop")) return did("dropped");
  if (hit("destroy")) {
    did("destroyed");
    return client.terminate();
  }
  if (hit("misroute")) {
    const others = [...clients].filter((other) => other !== client && other.readyState === other.OPEN);
    if (others.length > 0) {
      did("misrouted");
      return send(others[Math.floor(Math.random() * others.length)], data);
    }
  }
  if (hit("alter")) {
    did("altered");
    data = Buffer.from(data);
    // The padding is a row of this letter.
    data[data.lastIndexOf("xxxxxxxx")] = "b".charCodeAt(0);
  }
  if (hit("duplicate")) {
    did("duplicated");
    send(client, data);
  }
  send(client, data);
}

let stallDue = given.stall !== "0";
listen(given, tally, (client, clients) => {
  let latest = 0;
  client.on("message", (data, binary) => {
    tally[binary ? "binary" : "text"] += 1;
    if (stallDue) {
      stallDue = false;
      setTimeout(stall, Number(given.after));
    }
    const delay = Number(given.delay) + Math.random() * Number(given.jitter);
    if (delay === 0) return answer(client, clients, data, binary);
    latest = Math.max(latest, performance.now() + delay);
    setTimeout(answer, latest - performance.now(), client, clients, data, binary);
  });
});
