"""Users that loadtest does not play: they break rules and limits, report calls, speak and answer questions. A small WebSocket
client (RFC 6455)."""

import base64
import json
import os
import socket
import struct
import time
import urllib.error
import urllib.request

from app import name


class Closed(Exception):
    """The server has ended the connection."""


class Visitor:
    """By default it is somebody new, as the app would say who is asked."""

    def __init__(self, address, *headers, path="/ws", token=None):
        if "token=" not in path:
            path += ("&" if "?" in path else "?") + "access_token=" + (token or name())
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {address}", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *headers, "", "",
        ]
        self.socket.sendall("\r\n".join(lines).encode())
        self.stream = self.socket.makefile("rb")
        self.status = int(self.stream.readline().split()[1])
        while self.stream.readline().strip():
            pass

    def send(self, *messages):
        """Sends objects, or texts and bytes as they are."""
        frames = b""
        for message in messages:
            kind = b"\x82" if isinstance(message, bytes) else b"\x81"
            text = message if isinstance(message, bytes) else (message if isinstance(message, str) else json.dumps(message)).encode()
            if len(text) < 126:
                length = struct.pack("!B", 0x80 | len(text))
            elif len(text) < 65536:
                length = struct.pack("!BH", 0x80 | 126, len(text))
            else:
                length = struct.pack("!BQ", 0x80 | 127, len(text))
            # A mask of zeros leaves the text as it is.
            frames += kind + length + bytes(4) + text
        self.socket.sendall(frames)

    def expect(self, kind):
        """Reads until a message of this type comes, and returns it."""
        while True:
            message = json.loads(self._frame())
            if message["type"] == kind:
                return message

    def expect_close(self):
        try:
            while True:
                self._frame()
        except (Closed, ConnectionError):
            return

    def leave(self):
        self.socket.close()
        self.stream.close()

    def _frame(self):
        head = self.stream.read(2)
        if len(head) < 2 or head[0] & 0x0F == 8:
            raise Closed
        length = head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.stream.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.stream.read(8))
        content = self.stream.read(length)
        # Who stays for less than a minute need not answer pings.
        return self._frame() if head[0] & 0x0F == 9 else content


def break_rules(address, max_rooms):
    """Does once what the panels about troubles show."""
    stranger = Visitor(address, "Origin: https://elsewhere.example")
    assert stranger.status == 403, stranger.status
    stranger.leave()

    talker, listener = Visitor(address), Visitor(address)
    talker.send("not JSON", {"type": "join_room", "room": "tea"})
    assert talker.expect("error")["code"] == "bad_json"
    talker.expect("room_joined")
    listener.send({"type": "join_room", "room": "tea"})
    listener.expect("room_joined")
    # More than --message-burst, and less than what closes the sender.
    talker.send(*[{"type": "message", "payload": 1}] * 230)
    assert talker.expect("error")["code"] == "rate_limited"

    # With `tea` one room too many. Who is the last to ask is not decided by who is the last to send.
    crowd = [Visitor(address) for _ in range(max_rooms)]
    for number, visitor in enumerate(crowd):
        visitor.send({"type": "join_room", "room": f"room-{number}"})
        if visitor is not crowd[-1]:
            visitor.expect("room_joined")
    assert crowd[-1].expect("error")["code"] == "too_many_rooms"

    listener.send(json.dumps({"type": "message", "payload": "x" * 70_000}))
    listener.expect_close()

    user, nuisance = Visitor(address), Visitor(address)
    for visitor in (user, nuisance):
        visitor.send({"type": "find_match"})
    user.expect("match_found")
    user.send({"type": "report", "reason": "spam"}, {"type": "block", "id": 1})
    user.expect("ack")
    for visitor in [talker, listener, *crowd, user, nuisance]:
        visitor.leave()


def report_calls(address):
    """Users are matched two by two and tell how their calls went."""
    heard = {"outcome": "connected", "local": "host", "remote": "srflx", "setup_ms": 90, "audio_ms": 140, "lost_percent": 0.4}
    for report in (
        {**heard, "path": "direct"},
        {**heard, "path": "relayed", "remote": "relay", "setup_ms": 310, "audio_ms": 420, "restarts": 1},
        {"outcome": "failed", "reason": "ice_failed"},
        {"outcome": "abandoned", "reason": "left"},
    ):
        users = [Visitor(address, path="/ws?resume=1") for _ in range(2)]
        for user in users:
            user.send({"type": "find_match", "seq": 1})
        for user in users:
            user.expect("match_found")
            user.send({"type": "call_report", "seq": 2, "id": 1, **report})
            user.expect("ack")
        for user in users:
            # Else the session would wait for its user.
            user.send({"type": "leave"})
            user.expect_close()
            user.leave()


def speak(server):
    """Two speak, of whom the provider hears one, and the host reads it. The provider closes in mid-sentence."""
    session = ask(server.admin, "/api/sessions", {"slug": "dashboards"})
    host = Visitor(server.public, path=f"/transcribe?token={session['host_token']}")
    assert host.expect("ready")["role"] == "host"
    speakers = []
    for user in ("ann", "ben"):
        speakers.append(Visitor(server.public, path=f"/transcribe?token={speaker_at(server, 'dashboards', user)}"))
        speakers[-1].expect("ready")
    # Half a frame's sample.
    speakers[0].send(bytes(3201))
    assert speakers[0].expect("error")["code"] == "bad_audio"
    for _ in range(80):
        for speaker in speakers:
            speaker.send(VOICE)
        time.sleep(0.1)
    host.expect("partial")
    host.expect("final")
    host.expect("stored")
    # What was not heard of the second one is told at the end at the latest.
    host.send({"type": "stop"})
    host.expect("gap")
    host.expect("ended")
    for visitor in (host, *speakers):
        visitor.leave()


def speaker_at(server, session, user):
    """The token of a user who joins."""
    return ask(server.admin, f"/api/sessions/{session}/participants/join", {"user": user})["participant"]["token"]


# A tenth of a second of it.
VOICE = struct.pack("<1600h", *[4000 if step // 40 % 2 else -4000 for step in range(1600)])


def be_interviewed(admin):
    """Somebody answers the first question, and first in a way that does not fit."""
    interview = ask(admin, "/api/surveys/mobility/sessions", {"language": "en"})["session"]
    tool = f"/api/surveys/sessions/{interview}/"
    question = ask(admin, tool + "get_next_question", {})["question"]["id"]
    assert not ask(admin, tool + "validate_answer", {"question": question, "spoken": "perhaps"})["valid"]
    assert "code" in ask(admin, tool + "record_response", {"question": question, "spoken": "perhaps", "request_id": "1"})
    assert ask(admin, tool + "record_response", {"question": question, "spoken": "yes", "request_id": "2"})["stored"]


def ask(address, path, body):
    """What a server answers to a request with JSON, whatever its status."""
    asked = urllib.request.Request(f"http://{address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)
