"""What a test starts by a fork is what a new process would be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes

#: Tells all that a program could see of how it was started.
PROBE = """
import json, os, random, resource, signal, sys, threading, warnings
said = {
    "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "flags": str(sys.flags),
    "warnings": str(warnings.filters), "cwd": os.getcwd(), "env": dict(os.environ),
    "umask": os.umask(0), "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
    "session": os.getsid(0) == os.getpid(), "user": (os.getuid(), os.getgid(), os.getgroups()),
    "signals": {one.name: str(signal.getsignal(one)) for one in signal.valid_signals()
                if isinstance(one, signal.Signals)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "descriptors": [fd for fd in range(100) if os.path.exists(f"/proc/self/fd/{fd}")],
    "threads": threading.active_count(), "main": __name__, "file": globals().get("__file__"),
    "comm": open("/proc/self/comm").read(), "reactor": "twisted.internet.reactor" in sys.modules,
    "plugins": "twisted.plugins" in sys.modules, "heard": sys.stdin.read(),
    "streams": [(one.encoding, one.errors, one.line_buffering, one.write_through)
                for one in (sys.stdin, sys.stdout, sys.stderr)],
}
print(json.dumps(said, sort_keys=True))
print("on the other", file=sys.stderr)
"""


def told(popen, words: list[str], folder: Path) -> list[object]:
    """What such a process says on both streams, and how it ends."""
    env = {**processes.environment(folder), "A_WORD": "of this test", "TZ": "Asia/Tokyo"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with popen(
        words, cwd=folder, env=env, text=True, start_new_session=True, umask=0o27, **pipes
    ) as process:
        out, err = process.communicate("some input\n", processes.NEVER)
    return [json.loads(out or "{}"), err, process.returncode]


@pytest.mark.parametrize("how", ["a script", "code"])
def test_a_fork_is_like_a_new_process(tmp_path, how):
    script = tmp_path / "probe.py"
    script.write_text(PROBE)
    words = [sys.executable, *((str(script),) if how == "a script" else ("-c", PROBE)), "a", "-b"]
    forked, new = (told(one, words, tmp_path) for one in (processes.Popen, subprocess.Popen))
    assert forked == new
    assert forked[1:] == ["on the other\n", 0]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('why')", 1),
        ("1 / 0", 1),
        ("import os; os._exit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.kill(os.getpid(), 2)", -signal.SIGINT),
        ("import atexit, os; atexit.register(os._exit, 5)", 5),
    ],
)
def test_it_ends_as_a_new_process_ends(tmp_path, code, status):
    assert processes.run([sys.executable, "-c", code], cwd=tmp_path).returncode == status
    words = [sys.executable, "-c", code]
    new = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
    assert new.returncode == status


@pytest.fixture
def waiting(tmp_path):
    """A forked process that waits for its input to end."""
    words = [sys.executable, "-c", "import sys; print('here', flush=True); sys.stdin.read()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with processes.Popen(words, cwd=tmp_path, env=processes.environment(), **pipes) as process:
        assert process.stdout.readline() == b"here\n"
        yield process


def test_it_is_there_until_the_test_has_heard_how_it_ended(waiting):
    assert waiting.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.01)
    waiting.kill()
    assert waiting.stdout.read() == b""
    os.kill(waiting.pid, 0)  # a zombie
    assert waiting.wait(processes.NEVER) == waiting.poll() == -signal.SIGKILL


def test_what_runs_ends_with_the_helper(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_helpers", {})
    words = [sys.executable, "-c", "import signal; print('here', flush=True); signal.pause()"]
    env = processes.environment()
    process = processes.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"here\n"
    processes.close()
    assert process.stdout.read() == b""
    process.stdout.close()
    process.returncode = -signal.SIGKILL  # nobody tells


@pytest.mark.parametrize(
    "special",
    [
        {"preexec_fn": lambda: None},
        {"env": {"PATH": os.environ["PATH"]}},
        {"env": None},
        {"args": [sys.executable, "-S", "-c", "pass"]},
        {"args": ["true"]},
    ],
)
def test_what_a_fork_cannot_be_is_a_new_process(tmp_path, special):
    usual = {"args": [sys.executable, "-c", "pass"], "env": processes.environment()}
    with processes.Popen(cwd=tmp_path, **{**usual, **special}) as process:
        assert process.wait(processes.NEVER) == 0
    assert process._link is None
