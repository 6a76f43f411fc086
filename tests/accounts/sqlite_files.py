"""A database of accounts, and other processes at it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.testing import ImmediateExecutor, finish
from tests import processes

LONG_AGO = itertools.count(1_600_000_000_123_456_789, 1000)
JOE = "joe@example.net"


class Counted(ImmediateExecutor):
    """Workers that count what they are asked."""

    def __init__(self):
        self.runs = 0

    def run(self, function, *args):
        self.runs += 1
        return super().run(function, *args)


class Another:
    """Another process at the same database."""

    def __init__(self, path):
        self.process = processes.Popen(
            [sys.executable, str(Path(__file__).parent / "another_process.py"), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=processes.environment(),
        )

    def tell(self, *words):
        print(*words, file=self.process.stdin, flush=True)

    def hear(self):
        return self.process.stdout.readline().strip()

    def ask(self, *words):
        self.tell(*words)
        return self.hear()

    def end(self):
        self.process.kill()
        self.process.communicate()


@contextmanager
def with_joe(path, executor):
    """A directory that has one account."""
    directory = SQLiteDirectory(path, executor)
    finish(directory.start())
    finish(directory.add_domain("example.net"))
    finish(directory.add(JOE, "a hash"))
    executor.runs = 0
    yield directory
    finish(directory.stop())


def age(path, when=None):
    """Let the files look as if nothing had changed for long; no two calls look alike."""
    when = next(LONG_AGO) if when is None else when
    for name in (path, path + "-wal"):
        if os.path.exists(name):
            os.utime(name, ns=(when, when))
