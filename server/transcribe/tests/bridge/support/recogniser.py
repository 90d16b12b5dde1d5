"""A program that hears numbered audio, in chunks of 100 ms. Arguments: NAME=VALUE, what goes wrong."""

import json
import os
import struct
import subprocess
import sys
import time

CHUNK = 3200
UTTERANCE = 20
PAUSE = 5
options = dict(argument.split("=", 1) for argument in sys.argv[1:])


def option(name):
    return int(options[name]) if name in options else None


def say(**message):
    print(json.dumps(message), flush=True)


def note(name, text):
    """Tells the test something."""
    if "notes" in options:
        with open(os.path.join(options["notes"], f"{name}-{os.getpid()}"), "w") as file:
            file.write(text)


def tell(kind, number, words):
    say(
        type=kind,
        id=number,
        start=words[0][1] / 10,
        end=(words[-1][1] + 1) / 10,
        text=" ".join(word for word, _ in words),
        confidence=0.9,
        words=[{"word": word, "start": at / 10, "end": (at + 1) / 10} for word, at in words],
    )


def main():
    note("pid", str(os.getpid()))
    note("environment", "\n".join(sorted(os.environ)))
    if "child" in options:
        child = subprocess.Popen(["sleep", "999"])
        note("child", str(child.pid))
    if "stderr" in options:
        print("x" * option("stderr"), file=sys.stderr, flush=True)
    time.sleep((option("load_ms") or 0) / 1000)
    say(type="ready")
    words, silence, number, chunk = [], 0, 0, 0
    while True:
        pcm = sys.stdin.buffer.read(CHUNK)
        if len(pcm) < CHUNK:
            break
        if pcm[:3] == b"\x56\x4d\xa7":
            track = int.from_bytes(pcm[3:6], "little")
            (counted,) = struct.unpack("<I", pcm[6:10])
            words.append((f"c{track}-{counted:06}", chunk))
            silence = 0
        else:
            silence += 1
        chunk += 1
        if chunk == option("exit_after"):
            sys.exit(3)
        if chunk == option("stall_after"):
            time.sleep(999)
        if option("garbage_each") and chunk % option("garbage_each") == 0:
            print(["{", "[]", "Loading", "x" * 1_000_000][chunk // option("garbage_each") % 4], flush=True)
        if words and (len(words) == UTTERANCE or silence == PAUSE):
            tell("final", number, words)
            words, number = [], number + 1
        elif words and len(words) % 3 == 0 and silence == 0:
            tell("partial", number, words)
    if words and "swallow" not in options:
        tell("final", number, words)
    if "hang" in options:
        time.sleep(999)
    sys.exit(option("exit") or 0)


main()
