"""Signals: nothing ends, and the log file is opened again."""

from __future__ import annotations

import os
import signal

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher, globalLogPublisher, textFileLogObserver
from twisted.python.logfile import LogFile

from postoffice.daemon import signals


class Reactor(Clock):
    def callFromThread(self, function, *args):
        function(*args)


@pytest.fixture
def file(tmp_path):
    file = LogFile.fromFullPath(str(tmp_path / "twistd.log"))
    yield file
    file.close()


@pytest.fixture
def publisher(file):
    return LogPublisher(textFileLogObserver(file), lambda event: None)


@pytest.fixture
def restored():
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("times", [1, 5])
def test_a_signal_opens_a_log_that_was_moved_again(
    publisher, tmp_path, restored, logged, number, times
):
    reloads = []
    signals.act_on_signals(Reactor(), publisher, lambda: reloads.append(number))
    log = Logger("x", observer=publisher)
    log.info("first")
    os.rename(tmp_path / "twistd.log", tmp_path / "twistd.log.old")
    for _ in range(times):
        os.kill(os.getpid(), number)
    log.info("second")
    assert "first" in (tmp_path / "twistd.log.old").read_text()
    assert "second" not in (tmp_path / "twistd.log.old").read_text()
    assert "second" in (tmp_path / "twistd.log").read_text()
    assert f"{number.name}: the log file is opened again" in "\n".join(logged)
    assert reloads == ([number] * times if number == signal.SIGHUP else [])


@pytest.mark.parametrize("why", ["no folder", "a folder in its place"])
def test_a_log_that_cannot_be_opened_again_is_written_on(publisher, tmp_path, logged, why):
    log = Logger("x", observer=publisher)
    moved = tmp_path / "old"
    os.rename(tmp_path / "twistd.log", moved)
    if why == "no folder":
        publisher._observers[0]._outFile.path = str(tmp_path / "gone" / "twistd.log")
    else:
        (tmp_path / "twistd.log").mkdir()
    signals.reopen(publisher)
    log.info("it goes on")
    assert "it goes on" in moved.read_text()
    assert "failed" in "\n".join(logged)


def test_what_is_no_log_file_stays_as_it_is(capsys):
    signals.reopen(globalLogPublisher)
    signals.reopen(LogPublisher(textFileLogObserver(open(os.devnull, "w"))))  # noqa: SIM115
