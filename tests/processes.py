"""
Python programs in processes of their own, without the second that their imports take.

Hundreds of tests start the daemon, the command or a small program of Python.  Almost all of the
time until such a program does something is taken by its imports.  So each process that runs tests
has one helper (this file, run as a program), which imports what these programs import, once, and
forks when a test starts a program.  The child is what a new process is: it has the arguments,
folder, environment, standard streams, umask, limits, network and signals that it would have,
nothing else is open in it, and it installs its own reactor.  It runs the same script or the same
code of ``python -c``.  The test gets a ``Popen`` whose methods do what they always do; until the
test has asked how the process ended, the process stays as a zombie, as any child does.

What differs: modules are in memory before they are asked for, strings have the same hashes in all
children, and /proc shows the command line of the helper.  Where a test needs more than the helper
can give (another Python or program, ``preexec_fn``), ``Popen`` starts a new process, as
ever.  tests/trip/test_run_it.py starts the installed ``twistd`` so.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import inspect
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
#: The programs that are installed beside this Python.
BIN = Path(sys.executable).parent
#: The command, for ``python -c``.
COMMAND = "import sys; sys.argv[0] = 'postoffice'; from postoffice.cli import main; main()"
#: Seconds after which something will never happen.
NEVER = 60
#: What an interpreter reads when it starts: the child of another one is no substitute.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")
_LIMITS = [number for name, number in vars(resource).items() if name.startswith("RLIMIT_")]
_PR_SET_PDEATHSIG, _CLONE_NEWNET = 1, 0x40000000  # of prctl(2) and setns(2)
#: The most octets of a request: arguments and environment.
_REQUEST = 200_000


def environment(*paths: Path) -> dict[str, str]:
    """Ours, with these folders on Python's path, and with this postoffice where it is not there."""
    if Path(sysconfig.get_path("purelib")) != ROOT:
        paths = (*paths, ROOT)
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if paths:
        outside["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    return {**outside, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def run(
    words: list[str], *, text: str | None = None, timeout: float = NEVER, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end: ``subprocess.run`` with a ``Popen`` of ours."""
    more = {"env": environment(), "start_new_session": True, **more}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with Popen(words, encoding="utf-8", errors="surrogateescape", **pipes, **more) as process:
        try:
            out, err = process.communicate(text, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


# -- the side of the tests ----------------------------------------------------------------------


class Popen(subprocess.Popen):
    """A process that the helper forks, if it can give what is asked for; else any process."""

    #: To the helper: it says on it which process this is and how it ended.
    _link: socket.socket | None = None

    def _execute_child(self, *facts: Any) -> None:
        asked = inspect.signature(super()._execute_child).bind(*facts).arguments
        words = [os.fspath(word) for word in asked["args"]]
        if not _can_fork(words, asked):
            super()._execute_child(*facts)
            return
        sys.audit("subprocess.Popen", words[0], words, asked["cwd"], asked["env"])
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        streams = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        streams = [number if fd == -1 else fd for number, fd in enumerate(streams)]
        self._link = _helper().begin(words, asked, streams)
        self.pid = int(self._link.recv(100))
        self._child_created = True
        self._close_pipe_fds(*(asked[name] for name in ends))

    def _wait(self, timeout: float | None) -> int:
        if self._link is None:
            return super()._wait(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if end is None else max(end - time.monotonic(), 0)
            with self._waitpid_lock:
                if self.returncode is None and _readable(self._link, 0):
                    self.returncode = int(self._link.recv(100))
                    self._link.close()
                    break
            if not _readable(self._link, left) and left == 0:
                raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _internal_poll(self, *facts: Any, **more: Any) -> int | None:
        if self._link is None:
            return super()._internal_poll(*facts, **more)
        with suppress(subprocess.TimeoutExpired):
            self._wait(0)
        return self.returncode


def _readable(link: socket.socket, seconds: float | None) -> bool:
    waiting = select.poll()  # select() takes no descriptor beyond 1023
    waiting.register(link, select.POLLIN)
    return bool(waiting.poll(None if seconds is None else seconds * 1000))


def _can_fork(words: list[str], asked: dict[str, Any]) -> bool:
    """Whether a child of the helper is what would be started."""
    special = ("preexec_fn", "pass_fds", "shell", "executable", "gid", "gids", "uid")
    if asked["env"] is None or any(asked[name] not in (None, (), False) for name in special):
        return False
    code = words[0] == sys.executable and len(words) > 1 and words[1][:1] not in ("-", "")
    code = code or words[:2] == [sys.executable, "-c"]
    script = words[0] in (str(BIN / "twistd"), str(BIN / "postoffice"))
    if not (code or script):
        return False
    same = _at_start(asked["env"]) == _at_start(environment())
    return same and _further_path(asked["env"]) is not None


def _at_start(env: dict[str, str]) -> dict[str, str]:
    """What an interpreter reads of this when it starts, but for its path."""
    found = {key: value for key, value in env.items() if key.startswith(_AT_START)}
    found.pop("PYTHONPATH", None)
    return found


def _further_path(env: dict[str, str]) -> list[str] | None:
    """The folders that come before those which the helper has; None if these are others."""
    own, theirs = _path(environment()), _path(env)
    more = len(theirs) - len(own)
    return theirs[:more] if more >= 0 and theirs[more:] == own else None


def _path(env: dict[str, str]) -> list[str]:
    return [folder for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder]


class Helper:
    """The process that forks."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                cwd="/", env=environment(), stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip

    def begin(self, words: list[str], asked: dict[str, Any], streams: list[int]) -> socket.socket:
        """Let it fork; the link on which it tells of the child."""
        request = {
            "words": words,
            "cwd": os.path.abspath(os.fspath(asked["cwd"] or ".")),
            "env": {os.fspath(key): os.fspath(value) for key, value in asked["env"].items()},
            "path": _further_path(asked["env"]),
            "umask": _umask() if asked["umask"] < 0 else asked["umask"],
            "session": asked["start_new_session"],
            "limits": [(number, resource.getrlimit(number)) for number in _LIMITS],
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open("/proc/thread-self/ns/net", "rb") as network:
            octets = json.dumps(request).encode()
            assert len(octets) <= _REQUEST
            descriptors = [theirs.fileno(), network.fileno(), *streams]
            socket.send_fds(self._control, [octets], descriptors)
        return ours

    def close(self) -> None:
        """End it, and what still runs of what it has begun."""
        self._control.close()
        self._process.wait()


def _umask() -> int:
    status = Path("/proc/thread-self/status").read_text()
    return int(status.partition("\nUmask:")[2].split()[0], 8)


_helpers: dict[int, Helper] = {}


def _helper() -> Helper:
    """The helper of this process; it is started when it is first needed."""
    if os.getpid() not in _helpers:
        _helpers[os.getpid()] = Helper()
    return _helpers[os.getpid()]


@atexit.register
def close() -> None:
    """End the helper, if there is one."""
    if helper := _helpers.pop(os.getpid(), None):
        helper.close()


# -- the side of the helper ---------------------------------------------------------------------


@dataclass
class _Child:
    """What the helper knows of a child."""

    pid: int
    link: int  # to the test
    ended: bool = False
    heard: bool = False  # the test knows how it ended, or does not ask any more

    def tell(self, number: int) -> None:
        with suppress(OSError):  # the test has gone
            os.write(self.link, b"%d" % number)

    def forget(self) -> None:
        """Its number may be another's from now on, if nobody needs it any more."""
        if self.ended and self.heard:
            os.waitpid(self.pid, 0)


class _Forks:
    """Forks for each request."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._waiting = select.poll()
        self._waiting.register(control, select.POLLIN)
        self._links: dict[int, _Child] = {}  # by the descriptors that are waited for
        self._ends: dict[int, _Child] = {}

    def serve(self) -> list[str]:
        """Serve all requests; in each child, return the program that it is to run."""
        while True:
            for fd, _ in self._waiting.poll():
                if fd in self._links:
                    self._heard(fd)
                elif fd in self._ends:
                    self._ended(fd)
                elif (words := self._begin()) is not None:
                    return words

    def _begin(self) -> list[str] | None:
        octets, descriptors, _, _ = socket.recv_fds(self._control, _REQUEST, 5)
        if not octets:  # the tests are over
            os._exit(0)
        request, helper = json.loads(octets), os.getpid()
        link, *given = descriptors
        pid = os.fork()
        if not pid:
            self._control.detach()
            _become(request, given, helper)
            return request["words"]
        for descriptor in given:
            os.close(descriptor)
        end = os.pidfd_open(pid)
        self._links[link] = self._ends[end] = child = _Child(pid, link)
        self._waiting.register(link, select.POLLIN)
        self._waiting.register(end, select.POLLIN)
        child.tell(pid)
        return None

    def _ended(self, end: int) -> None:
        self._waiting.unregister(end)
        os.close(end)
        child = self._ends.pop(end)
        how = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        child.ended = True
        child.tell(how.si_status if how.si_code == os.CLD_EXITED else -how.si_status)
        child.forget()

    def _heard(self, link: int) -> None:
        self._waiting.unregister(link)
        os.close(link)
        child = self._links.pop(link)
        child.link, child.heard = -1, True
        child.forget()


def _become(request: dict[str, Any], given: list[int], helper: int) -> None:
    """Make of this process what a shell would have started; it ends when the helper does."""
    libc = ctypes.CDLL(None, use_errno=True)
    network, *streams = given
    if os.stat(network).st_ino != os.stat("/proc/self/ns/net").st_ino:
        assert libc.setns(network, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if request["session"]:
        os.setsid()
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != helper:
        os._exit(1)
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    for number, limits in request["limits"]:
        if resource.getrlimit(number) != tuple(limits):
            resource.setrlimit(number, limits)
    sys.path[1:1] = request["path"]
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()


def _program(words: list[str]) -> None:
    """Run what the arguments of a new Python ask for."""
    python, *rest = words if words[0] == sys.executable else [sys.executable, *words]
    sys.orig_argv[:] = [python, *rest]
    Path("/proc/self/comm").write_text(os.path.basename(words[0]))
    main = sys.modules["__main__"] = ModuleType("__main__")
    if rest[0] == "-c":
        source, name, sys.path[0] = rest.pop(1), "<string>", ""
    else:
        name = main.__file__ = rest[0]
        source, sys.path[0] = Path(name).read_text(), os.path.dirname(os.path.realpath(name))
    sys.argv[:] = rest
    exec(compile(source, name, "exec", dont_inherit=True), main.__dict__)


def _import_all() -> None:
    """All that the programs import, but no reactor: each child installs its own."""
    importlib.import_module("postoffice")
    from twisted.internet import epollreactor  # noqa: F401
    from twisted.scripts import twistd  # noqa: F401

    for module in pkgutil.walk_packages([str(ROOT / "postoffice")], "postoffice."):
        if not module.name.startswith("postoffice.testing"):
            with suppress(ModuleNotFoundError):  # of an extra that is not installed
                importlib.import_module(module.name)
    for name in ("twisted.internet.reactor", "twisted.plugins"):
        assert name not in sys.modules, f"{name} is each child's own"
    assert len(os.listdir("/proc/self/task")) == 1, "a thread does not survive a fork"
    gc.collect()
    gc.freeze()  # no child looks through these for garbage


if __name__ == "__main__":
    sys.path[0] = ""  # as with -c
    _import_all()
    _program(_Forks(socket.socket(fileno=int(sys.argv[1]))).serve())
