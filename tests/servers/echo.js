// Sends every message back as it came.
import { listen, options } from "./listen.js";

const tally = { connections: 0, refused: 0, text: 0, binary: 0 };

listen(options(), tally, (client) => {
  client.on("message", (data, binary) => {
    tally[binary ? "binary" : "text"] += 1;
    client.send(data, { binary });
  });
});
