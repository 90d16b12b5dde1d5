#!/usr/bin/env python3
"""Speaks in a transcription session, and prints what the server says, a message a line. Needs Python alone.

    speak.py ws://127.0.0.1:8080/transcribe TOKEN recording.wav
    arecord -q -t wav -f S16_LE -r 16000 -c 1 | speak.py ws://127.0.0.1:8080/transcribe TOKEN -

PCM, 16 bits, mono, of 16 or 48 kHz. At the end it says `stop`: if the token is the host's, the session ends.
"""

import base64
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
import wave
from urllib.parse import urlsplit


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    url, token, file = sys.argv[1:]
    with wave.open(sys.stdin.buffer if file == "-" else file) as recording:
        form = recording.getnchannels(), recording.getsampwidth(), recording.getframerate()
        if form[:2] != (1, 2) or form[2] not in (16_000, 48_000):
            sys.exit(f"{file} is not PCM of 16 bits, mono, 16 or 48 kHz; ffmpeg -i {file} -ac 1 -ar 16000 -c:a pcm_s16le out.wav")
        connection = Connection(url, token)
        listener = threading.Thread(target=connection.listen)
        listener.start()
        connection.send(1, json.dumps({"type": "start", "sample_rate": form[2]}).encode())
        due = time.monotonic()
        # A tenth of a second at a time; the last piece if it is long enough to be a frame.
        while len(pcm := recording.readframes(form[2] // 10)) >= form[2] // 50 * 2:
            connection.send(2, pcm)
            due += 0.1
            time.sleep(max(0, due - time.monotonic()))
        connection.send(1, b'{"type":"stop"}')
        listener.join(timeout=10)
        connection.socket.close()


class Connection:
    """A WebSocket (RFC 6455) whose messages come in one frame each."""

    def __init__(self, url, token):
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        self.socket = socket.create_connection((parts.hostname, parts.port or (443 if secure else 80)))
        if secure:
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=parts.hostname)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: voicematch.1, token.{token}\r\n\r\n"
            .encode()
        )  # fmt: skip
        self.stream = self.socket.makefile("rb")
        head = b"".join(iter(self.stream.readline, b"\r\n"))
        if b" 101 " not in head.split(b"\r\n")[0]:
            sys.exit(head.decode() + self.stream.read1().decode())
        self.lock = threading.Lock()

    def send(self, kind, content):
        mask = os.urandom(4)
        length = len(content)
        size = struct.pack("!B", 0x80 | length) if length < 126 else struct.pack("!BH", 0x80 | 126, length)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(content))
        with self.lock:
            self.socket.sendall(bytes([0x80 | kind]) + size + mask + masked)

    def listen(self):
        """Prints texts and answers pings until the server closes."""
        while len(head := self.stream.read(2)) == 2:
            kind, length = head[0] & 0x0F, head[1] & 0x7F
            if length > 125:
                length = int.from_bytes(self.stream.read(2 if length == 126 else 8), "big")
            content = self.stream.read(length)
            if kind == 1:
                print(content.decode(), flush=True)
            elif kind == 9:
                self.send(10, content)
            elif kind == 8:
                print(f"closed: {int.from_bytes(content[:2], 'big')} {content[2:].decode()}")
                return


try:
    main()
except (BrokenPipeError, ConnectionResetError):
    sys.exit("the server has closed the connection; what it said last stands above")
except (OSError, wave.Error, EOFError) as error:
    sys.exit(f"speak.py: {error}")
