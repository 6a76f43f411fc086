"""
The `postoffice` command without the second that its imports take.

One process for each worker imports the command once, and forks for each call: a child in a session
of its own, with the folder, environment and standard streams of that call.  What a call does is
what it does from a shell; only that its modules import is tried elsewhere: ``run`` starts another
Python where an environment or a Python is given.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


class WarmCommand:
    """Runs the command in children of one process."""

    def __init__(self, folder: Path, env: dict[str, str], timeout: float) -> None:
        self._timeout = timeout
        self._address = str(folder / "warm")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._address)
            listening.listen()
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listening.fileno())],
                cwd=folder, env=env, stdin=subprocess.DEVNULL, pass_fds=[listening.fileno()],
            )  # fmt: skip

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def run(
        self, *words: str, cwd: Path, env: dict[str, str], text: str | None
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile() as given, _pipe() as out, _pipe() as err:
            given.write((text or "").encode())
            given.seek(0)
            call = json.dumps({"words": words, "cwd": str(cwd), "env": env}).encode()
            status = self._call(call, [given.fileno(), out.fileno(), err.fileno()])
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(
                ["postoffice", *words], status, out.read(), err.read()
            )

    def _call(self, call: bytes, streams: list[int]) -> int:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(self._timeout)
            link.connect(self._address)
            socket.send_fds(link, [len(call).to_bytes(4, "big")], streams)
            link.sendall(call)
            answers = link.makefile("r")
            pid = int(answers.readline())
            try:
                return int(answers.readline())
            except TimeoutError:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                raise


def _pipe():
    """What a stream of the command is written to; a file never fills up."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape")


def serve(listening: socket.socket) -> dict:
    """Fork for each call; the child that is to do it comes back with its words."""
    while True:
        link, _ = listening.accept()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not os.fork():
            listening.close()
            return handle(link)
        link.close()


def handle(link: socket.socket) -> dict:
    """Fork once more, and tell how that child ends."""
    size, streams, _, _ = socket.recv_fds(link, 4, 3)
    call = json.loads(link.makefile("rb").read(int.from_bytes(size, "big")))
    began, begin = os.pipe()
    pid = os.fork()
    if not pid:
        link.close()
        os.close(begin)
        os.read(began, 1)
        os.close(began)
        become(call, streams)
        return call
    with suppress(OSError):  # the test has gone
        link.sendall(b"%d\n" % pid)
        os.close(begin)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        link.sendall(b"%d\n" % status)
    os._exit(0)


def become(call: dict, streams: list[int]) -> None:
    """What a process is that a shell has started."""
    os.setsid()
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["env"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.argv[:] = ["postoffice", *call["words"]]


def imported() -> None:
    """All that a command imports, but no reactor: that is installed in each child."""
    import importlib
    import pkgutil

    from twisted.internet import epollreactor  # noqa: F401

    import postoffice

    for room in ("accounts", "backup", "cli", "config", "store"):
        path = [str(Path(postoffice.__file__).parent / room)]
        for module in pkgutil.walk_packages(path, f"postoffice.{room}."):
            with suppress(ModuleNotFoundError):  # of an extra that is not installed
                importlib.import_module(module.name)
    assert "twisted.internet.reactor" not in sys.modules


if __name__ == "__main__":
    sys.path[0] = ""  # as with -c
    imported()
    serve(socket.socket(fileno=int(sys.argv[1])))
    from postoffice.cli import main

    main()
