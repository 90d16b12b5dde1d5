// Gives out tokens over HTTP, lets in who has one, acknowledges each message that has an id, and sends back every
// third binary one.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { listen, options } from "./listen.js";

const given = options({
  slow: { type: "string", default: "0" }, // answers over HTTP take so many milliseconds
  longwinded: { type: "boolean" }, // its answers are longer than anybody keeps
  tokenless: { type: "boolean" }, // its answers have no token in them
});
const tally = { connections: 0, refused: 0, tokens: 0, bad_requests: 0, joins: 0, acks: 0, chunks: 0, answers: 0 };
const tokens = new Set();

async function onRequest(request, response) {
  let text = "";
  for await (const part of request) text += part;
  const json = request.headers["content-type"] === "application/json";
  if (request.method !== "POST" || !json || !JSON.parse(text).user) {
    tally.bad_requests += 1;
    return response.writeHead(400).end();
  }
  tally.tokens += 1;
  const token = `tk+${randomBytes(6).toString("base64")}`;
  tokens.add(token);
  await sleep(Number(given.slow));
  const padding = given.longwinded ? "x".repeat(70_000) : "";
  const body = given.tokenless ? {} : { padding, token, participant: { token } };
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
}

/** Each token lets in once. */
function admits(request) {
  return tokens.delete(new URL(request.url, "http://localhost").searchParams.get("token"));
}

function onConnection(client) {
  client.on("message", (data, binary) => {
    if (binary) {
      if (tally.chunks++ % 3 !== 0) return;
      tally.answers += 1;
      return client.send(data, { binary });
    }
    const message = JSON.parse(data);
    if (message.type === "join") tally.joins += 1;
    if (!message.id) return;
    tally.acks += 1;
    client.send(JSON.stringify({ ack: message.id }));
  });
}

listen(given, tally, onConnection, { onRequest, admits });
