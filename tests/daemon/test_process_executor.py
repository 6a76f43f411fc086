"""Blocking functions in a process of their own."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from postoffice.daemon import process_executor
from postoffice.daemon.child_process import PROGRAM
from postoffice.model.errors import MaildropFull, TemporaryFailure
from postoffice.model.reply import MAILBOX_FULL
from tests import processes
from tests.conftest import turn_until
from tests.daemon.desk import Desk, Unreadable


@pytest.fixture
def apart(tmp_path):
    """Makes workers apart; they are gone in the end."""
    made = []

    def apart(folder=tmp_path, *, wait=True):
        made.append(process_executor.maker(reactor)("desk", Desk, str(folder), memory=4096))
        made[-1].start()
        if wait:
            turn_until(lambda: made[-1].ready)
        return made[-1]

    yield apart
    for one in made:
        result(Deferred.fromCoroutine(one.stop()))


def result(deferred):
    outcome = []
    deferred.addBoth(outcome.append)
    turn_until(lambda: outcome)
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def test_one_thing_is_made_in_another_process_and_is_there_for_all(apart):
    executor = apart()
    first, pid, _ = result(executor.run(Desk.see, 1))
    both, again, _ = result(executor.run(Desk.see, "a", b"\0" * 1_000_000))
    assert (first, both[1][0]) == ([(1,)], "a")
    assert pid == again != os.getpid()
    assert Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "desk\n"


def test_memory_is_shared_also_with_the_next_process(apart):
    executor = apart()
    executor.memory[:3] = b"abc"
    result(executor.run(Desk.turn_around))
    assert executor.memory[-3:] == b"cba"
    os.kill(executor._process.transport.pid, signal.SIGKILL)
    turn_until(lambda: not executor.ready)
    executor._not_before = 0
    executor.start()
    turn_until(lambda: executor.ready)
    result(executor.run(Desk.turn_around))
    assert executor.memory[:3] == b"abc"


def test_what_is_raised_is_raised_here_with_all_that_it_says(apart):
    with pytest.raises(MaildropFull, match="joe: over") as raised:
        result(apart().run(Desk.refuse))
    assert raised.value.reply == MAILBOX_FULL


def test_two_are_at_work(apart):
    executor = apart()
    both = [executor.run(Desk.meet, "one", "two"), executor.run(Desk.meet, "two", "one")]
    assert list(map(result, both)) == ["one", "two"]


def test_where_no_thread_is_to_be_had_it_is_asked_for_again(apart):
    executor = apart()
    result(executor.run(Desk.no_more_threads))
    both = [executor.run(Desk.threads_again), executor.run(Desk.meet, "two", "one")]
    assert list(map(result, both)) == ["one", "two"]


@pytest.mark.filterwarnings("ignore")
def test_where_a_call_cannot_be_read_the_process_ends_and_nobody_waits_for_it(apart):
    executor = apart()
    waiting = executor.run(Desk.see, Unreadable())
    with pytest.raises(TemporaryFailure, match="desk ended during a call"):
        result(waiting)


def test_what_no_pipe_takes_is_a_failure_and_no_end(apart):
    executor = apart()
    with pytest.raises(TemporaryFailure, match="pickle"):
        result(executor.run(Desk.unheard_of))
    assert result(executor.run(Desk.print)) == "printed"


def test_a_cancelled_call_gets_no_answer_and_the_next_does(apart):
    executor = apart()
    given_up = executor.run(Desk.see)
    given_up.addErrback(lambda _: None)
    given_up.cancel()
    assert len(result(executor.run(Desk.see))[0]) == 2


def test_signals_to_all_of_us_are_the_parent_s(apart):
    executor = apart()
    _, pid, _ = result(executor.run(Desk.see))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    assert result(executor.run(Desk.see))[1] == pid


def test_a_stop_comes_behind_what_was_asked(apart, tmp_path):
    executor = apart()
    last = executor.run(Desk.see)
    result(Deferred.fromCoroutine(executor.stop()))
    assert last.called
    assert (tmp_path / "closed").exists()
    assert not executor.ready
    executor.start()
    assert not executor.ready, "it has been stopped"


@pytest.mark.filterwarnings("ignore")
def test_a_process_that_dies_fails_its_calls_and_is_replaced(apart, monkeypatch, logged):
    executor = apart()
    _, pid, _ = result(executor.run(Desk.see))
    waiting = executor.run(Desk.meet, "one", "nobody")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(TemporaryFailure, match="desk ended during a call"):
        result(waiting)
    assert not executor.ready
    assert any("the process for desk failed" in line for line in logged)
    with pytest.raises(TemporaryFailure, match="no process"):
        result(executor.run(Desk.see))
    executor.start()
    assert executor._process is None, "it has died just now"
    monkeypatch.setattr(executor, "_not_before", 0.0)
    executor.start()
    turn_until(lambda: executor.ready)
    assert result(executor.run(Desk.see))[1] != pid


def test_what_cannot_be_made_is_said_and_nobody_is_there(apart, tmp_path, logged):
    executor = apart(tmp_path / "nowhere", wait=False)
    turn_until(lambda: executor._process is None)
    assert not executor.ready
    assert any("desk failed" in line and "is missing" in line for line in logged)


def test_where_there_is_no_room_for_a_process_there_is_none(apart, monkeypatch, logged):
    def refuse(*_, **named):
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(reactor, "spawnProcess", refuse)
        executor = apart(wait=False)
    assert not executor.ready
    assert any("starting the process for desk failed: [Errno 11]" in line for line in logged)
    monkeypatch.setattr(executor, "_not_before", 0.0)
    executor.start()
    turn_until(lambda: executor.ready)


PARENT = """
import os, sys, time
sys.path[:0] = sys.argv[1:]
from tests.daemon.desk import Desk, Unreadable

from postoffice.daemon import process_executor
from postoffice.daemon.child_process import PROGRAM
from twisted.internet import reactor
workers = process_executor.maker(reactor)("desk", Desk, ".", memory=4096)
workers.start()
MEETING = os.environ.get("MEETING", "")
def ready():
    if not workers.ready:
        return reactor.callLater(0.01, ready)
    workers.run(Desk.see).addCallback(lambda seen: print(seen[1], flush=True))
    for mine in MEETING:
        workers.run(Desk.meet, mine, "go" if mine < "5" else mine)
reactor.callLater(0, ready)
reactor.run()
"""


def test_nobody_is_left_behind_a_parent_that_was_killed(tmp_path):
    parent = processes.Popen(
        [sys.executable, "-c", PARENT, str(Path(__file__).parent.parent.parent), *sys.path],
        cwd=tmp_path,
        env=processes.environment(),
        stdout=subprocess.PIPE,
    )
    pid = int(parent.stdout.readline())
    end = os.pidfd_open(pid)
    parent.kill()
    parent.communicate(timeout=60)  # until nobody has its standard error any more
    poll = select.poll()
    poll.register(end, select.POLLIN)
    assert poll.poll(60_000), "it is still there"
    os.close(end)
    assert (tmp_path / "closed").exists()


def test_behind_a_parent_that_was_killed_it_ends_what_it_is_at_and_nothing_more(tmp_path):
    parent = processes.Popen(
        [sys.executable, "-c", PARENT, str(Path(__file__).parent.parent.parent), *sys.path],
        cwd=tmp_path,
        env={**processes.environment(), "MEETING": "12345"},
        stdout=subprocess.PIPE,
    )
    pid = int(parent.stdout.readline())
    end = os.pidfd_open(pid)
    assert process_executor.THREADS == 4
    turn_until(lambda: all((tmp_path / one).exists() for one in "1234"))  # all threads are at it
    parent.kill()
    parent.wait(60)
    (tmp_path / "go").touch()
    poll = select.poll()
    poll.register(end, select.POLLIN)
    assert poll.poll(60_000), "it is still there"
    os.close(end)
    parent.communicate(timeout=60)
    assert (tmp_path / "closed").exists()
    assert not (tmp_path / "5").exists(), "nobody waits for that"


def test_a_parent_that_is_killed_before_it_says_anything_is_no_bug():
    begun = [sys.executable, "-c", PROGRAM, *sys.path]
    done = subprocess.run(begun, input=b"", capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_process_apart_knows_nothing_of_twisted():
    asked = (
        "import sys, postoffice.daemon.child_process, postoffice.store.store_process;"
        "sys.exit('twisted' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


def test_where_no_process_can_be_made_nobody_makes_one():
    assert process_executor.maker(object()) is None
