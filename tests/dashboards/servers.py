"""Two servers that are one, what is between them, and what reads them."""

import json
import os
import re
import signal
import socket
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from app import written
from machines import free_port, running, wait_until
from panels import FOLDER
from prometheus import Prometheus

HERE = Path(__file__).resolve().parent
SERVER = os.environ.get("VOICEMATCH_SERVER", str(FOLDER.parent / "target/release/voicematch-server"))
SURVEY = FOLDER.parent / "server/transcribe/examples/mobility.toml"
MAX_ROOMS = 8


@dataclass
class Server:
    process: Popen
    # Its addresses for users and for operators.
    public: str
    admin: str

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=5) as answer:
            return answer.read().decode()

    def cluster(self):
        """What it says of the engine."""
        return json.loads(self.get("/readyz")).get("cluster")

    def node(self):
        """What it is called among the servers."""
        return json.loads(self.get("/support/nodes"))["nodes"][0]["id"]

    def value(self, series):
        """Of a metric with its labels; 0 if it is not there."""
        found = re.search(f"^{re.escape(series)} (.+)$", self.get("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0

    def counts(self, series, least=1):
        wait_until(f"{series} is {least}", lambda: self.value(series) >= least)

    @contextmanager
    def standing_still(self):
        """Does nothing until the block ends, and then goes on."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class Engine:
    """A Redis, and what servers are told of it."""

    def __init__(self, started, folder):
        self.started, self.folder, self.port = started, folder, str(free_port())
        key = written(folder / "room.key", "0123456789abcdef" * 4)
        self.flags = ["--cluster", f"redis://127.0.0.1:{self.port}", "--room-key-file", str(key)]
        self.run()

    def run(self):
        command = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = self.started.enter_context(running(self.folder / "engine.log", *command))

    def end(self):
        self.process.kill()
        self.process.wait()

    def ask(self, *words):
        """Its answer, as a text."""
        words = [word if isinstance(word, bytes) else word.encode() for word in words]
        asked = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        with socket.create_connection(("127.0.0.1", int(self.port)), timeout=5) as connection:
            connection.sendall(asked)
            stream = connection.makefile("rb")
            answer = stream.readline().decode().strip()
            return stream.read(int(answer[1:])).decode() if answer.startswith("$") else answer


def start_server(started, folder, engine, app, database):
    """The server that the users of loadtest come to: the app is asked about them, and is told what happens."""
    return start(
        started, folder, "server", *engine.flags, "--database", database, "--survey", SURVEY, "--max-rooms", MAX_ROOMS,
        "--drain-timeout", "8s", "--auth-webhook", app.url + "/who", "--event-webhook", app.url + "/events",
        "--event-webhook-secret-file", app.secret, "--otlp-endpoint", app.url, "--sentry-dsn-file", app.dsn,
        # Streams of the provider break, and the second speaker has to wait, longer than audio is kept.
        "--transcribe", "fake:?delay=10ms&final=1s&close_after=2s", "--transcribe-max-streams", 1, "--transcribe-buffer", "1s",
    )  # fmt: skip


def start_other(started, folder, engine, app, database):
    """A server that knows the app's keys, and keeps little of what the database does not take."""
    return start(
        started, folder, "other", *engine.flags, "--database", database, "--jwks", app.url + "/keys",
        "--transcribe", f"command:{HERE / 'stammer'}", "--transcribe-queue-size", 1, "--transcribe-spill", "64KiB",
    )  # fmt: skip


def start(started, folder, name, *flags):
    log, state = folder / f"{name}.log", folder / name
    command = [SERVER, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--state-dir", state, *flags]
    process = started.enter_context(running(log, *map(str, command)))
    found = wait_until(f"the server {name} listens", lambda: re.search(r" public=(\S+) admin=(\S+)", plain(log)))
    return Server(process, found[1], found[2])


def start_prometheus(started, folder, engine, servers, generator):
    """It reads the servers, loadtest and, by redis_exporter, the engine."""
    exporter = f"127.0.0.1:{free_port()}"
    command = ["prometheus-redis-exporter", "-web.listen-address", exporter, "-redis.addr", f"redis://127.0.0.1:{engine.port}"]
    started.enter_context(running(folder / "exporter.log", *command))
    config = (FOLDER / "prometheus.yml").read_text()
    for text, instead in [
        ('"127.0.0.1:6060"', ", ".join(f'"{server.admin}"' for server in servers)),
        ("127.0.0.1:9100", generator),
        (r"(scrape|evaluation)_interval: \d+s", r"\1_interval: 1s"),
        ("rules.yml]", str(FOLDER / "rules.yml]")),
    ]:
        config, changes = re.subn(text, instead, config)
        assert changes, f"prometheus.yml has no {text}"
    config += f'  - job_name: redis\n    static_configs: [{{ targets: ["{exporter}"] }}]\n'
    (folder / "prometheus.yml").write_text(config)
    address = f"127.0.0.1:{free_port()}"
    started.enter_context(running(
        folder / "prometheus.log", "prometheus", "--config.file", str(folder / "prometheus.yml"),
        "--storage.tsdb.path", str(folder / "data"), "--web.listen-address", address,
    ))  # fmt: skip
    return Prometheus(address)


def plain(log):
    """What a program has written, without colours."""
    return re.sub(r"\x1b\[\w*m", "", log.read_text())
