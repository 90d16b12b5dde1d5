"""A PostgreSQL of the test's own: Debian's package `postgresql`."""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machines import running, wait_until

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path())


@dataclass
class Database:
    url: str
    # Where its socket is.
    folder: str

    def run(self, statement):
        ask = [PROGRAMS / "psql", "-q", "-h", self.folder, "-U", "postgres", "-c", statement]
        subprocess.run(ask, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def database(folder):
    """Runs one until the block ends."""
    with tempfile.TemporaryDirectory(prefix="voicematch-postgres-") as own:
        # It does not run as root.
        other = []
        if os.geteuid() == 0:
            shutil.chown(own, "postgres", "postgres")
            other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        data = f"{own}/data"
        make = [PROGRAMS / "initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", data]
        subprocess.run([*other, *make], check=True, stdout=subprocess.DEVNULL, cwd=own)
        serve = [PROGRAMS / "postgres", "-c", "listen_addresses=", "-D", data, "-k", own]
        with running(folder / "postgres.log", *other, *serve):
            ask = [PROGRAMS / "pg_isready", "-q", "-h", own]
            wait_until("PostgreSQL takes connections", lambda: subprocess.run(ask, check=False).returncode == 0)
            yield Database(f"postgres://postgres@localhost/postgres?host={own}", own)
