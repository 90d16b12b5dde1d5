"""Programs that a test starts and ends, each by its own process."""

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what, condition, seconds=30):
    """Asks until the answer is true, and returns it. An answer that cannot be had is not true."""
    until, last = time.monotonic() + seconds, None
    while time.monotonic() < until:
        try:
            if answer := condition():
                return answer
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise TimeoutError(f"not within {seconds} s: {what} ({last})")


@contextmanager
def running(log, *command):
    """Runs a program until the block ends; its output goes to the file `log`."""
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def resident_bytes(process):
    with open(f"/proc/{process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))
