"""What a server of the app's does: it says who may come in, publishes the keys of tokens, and takes events. It also stands in for
a collector of traces (OpenTelemetry) and for a service that takes error reports (Sentry)."""

import base64
import itertools
import json
import os
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

PROJECT = 42


class App:
    """`signed` makes tokens for servers that know the app's keys by their URL."""

    def __init__(self, address, folder):
        self.address, self.url = address, f"http://{address}"
        # Of events that were taken, by type; and of requests, by path.
        self.events, self.requests = Counter(), Counter()
        self.private = folder / "app.pem"
        openssl("genpkey", "-algorithm", "ed25519", "-out", self.private)
        self.secret = written(folder / "events.secret", "whsec_" + base64.b64encode(os.urandom(32)).decode())
        self.dsn = written(folder / "sentry.dsn", f"http://key@{address}/{PROJECT}")

    def keys(self):
        # The key is the last 32 bytes of its encoding.
        public = openssl("pkey", "-in", self.private, "-pubout", "-outform", "DER")[-32:]
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "1", "x": in_base64(public)}]}

    def signed(self, user, key="1"):
        """A token; of a `key` that is not published it is refused."""
        parts = {"alg": "EdDSA", "kid": key}, {"sub": user, "exp": int(time.time()) + 600}
        content = ".".join(in_base64(json.dumps(part).encode()) for part in parts)
        written(self.private.with_suffix(".content"), content)
        sign = "pkeyutl", "-sign", "-rawin", "-inkey", self.private, "-in", self.private.with_suffix(".content")
        return content + "." + in_base64(openssl(*sign))

    def answer(self, path, body):
        """A status and an object."""
        self.requests[path] += 1
        if path == "/who":
            # The token is the user's name; and any may come in.
            return 200, {"sub": json.loads(body)["token"]}
        if path == "/keys":
            return 200, self.keys()
        if path == "/events":
            kinds = Counter(event["type"] for event in json.loads(body)["data"])
            if self.requests[path] == 1:
                return 503, {}  # It comes again.
            if kinds["block.made"]:
                return 400, {}  # It does not.
            self.events += kinds
            return 200, {}
        if path in ("/v1/traces", f"/api/{PROJECT}/envelope/"):
            return 200, {}
        return 404, {}


@contextmanager
def app(folder):
    """Runs it until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer goes out at once.
        wbufsize = -1
        disable_nagle_algorithm = True

        def respond(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = known.answer(self.path, body)
            content = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = respond

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        known = App("127.0.0.1:{}".format(server.server_port), folder)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()


NUMBERS = itertools.count(1)


def name():
    """A token of somebody new, for a server that asks the app. Two dots tell it from a token of a session."""
    return f"visitor.{next(NUMBERS)}.x"


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, stdout=subprocess.PIPE).stdout


def written(file, content):
    """The file, which only its owner may read."""
    file.touch(0o600)
    file.write_text(content)
    return file


def in_base64(content):
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
