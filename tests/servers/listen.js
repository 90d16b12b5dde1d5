// What the echo servers share: a free port, TLS and tokens if asked for, and a tally at the end.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { parseArgs } from "node:util";
import { WebSocketServer } from "ws";

const SHARED = {
  cert: { type: "string" }, // PEM files: makes it a wss:// server
  key: { type: "string" },
  token: { type: "string", multiple: true }, // lets in who has one of these, and answers 401 to others
  header: { type: "string" }, // "name: value": answers 403 to who does not send it
};

/** Options of the command line: those of every server here, and these. */
export function options(own = {}) {
  return parseArgs({ options: { ...SHARED, ...own } }).values;
}

/** Serves on a free port, which it prints; prints the tally as JSON and ends once stdin is closed. */
export function listen(given, tally, onConnection) {
  const http = given.cert
    ? createTlsServer({ cert: readFileSync(given.cert), key: readFileSync(given.key) })
    : createServer();
  const sockets = new WebSocketServer({ noServer: true });
  http.on("upgrade", (request, socket, head) => {
    const status = refusal(given, request.headers);
    tally[status ? "refused" : "connections"] += 1;
    if (status) return socket.end(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\n\r\n`);
    sockets.handleUpgrade(request, socket, head, (client) => onConnection(client, sockets.clients));
  });
  http.listen(0, "127.0.0.1", () => console.log(http.address().port));
  process.stdin.resume().on("end", () => {
    console.log(JSON.stringify(tally));
    process.exit();
  });
}

function refusal({ token, header }, headers) {
  if (token && !token.some((one) => headers.authorization === `Bearer ${one}`)) return "401 Unauthorized";
  const [name, value] = header?.split(": ") ?? [];
  return name && headers[name] !== value ? "403 Forbidden" : undefined;
}
