"""Logs are read with their rotated parts, plain or compressed, and out of the journal."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import shutil
import subprocess

import pytest

from postoffice.logs.files import LogFiles, LogUnreadable, SystemdJournal
from postoffice.logs.line import LONGEST


@pytest.fixture
def put(tmp_path):
    """Writes a file whose last change is at that time."""

    def put(name: str, octets: bytes, when: int) -> None:
        (tmp_path / name).write_bytes(octets)
        os.utime(tmp_path / name, (when, when))

    return put


def test_rotated_parts_come_first_and_oldest_first(put, tmp_path):
    put("po.log", b"6\n7\n", 700)
    put("po.log.1", b"5\n", 500)
    put("po.log.2.gz", gzip.compress(b"4\n"), 400)
    put("po.log-20261129.bz2", bz2.compress(b"3\n"), 300)
    put("po.log.2026_11_28", b"2\n", 200)
    put("po.log.3.xz", lzma.compress(b"1\n"), 100)
    for other in ("po.log.lock", "po.logs", "xpo.log.1", "po.log.1.zip", "po.log.orig"):
        put(other, b"no\n", 600)
    files = LogFiles([str(tmp_path / "po.log")])
    assert b"".join(files.lines()) == b"1\n2\n3\n4\n5\n6\n7\n"
    assert b"".join(files.lines(350)) == b"4\n5\n6\n7\n"
    assert b"".join(files.lines()) == b"1\n2\n3\n4\n5\n6\n7\n"


def test_a_long_line_costs_only_itself(put, tmp_path):
    put("po.log", b"x" * (3 * LONGEST + 5) + b"\nnext\n" + b"y" * LONGEST, 1)
    found = list(LogFiles([str(tmp_path / "po.log")]).lines())
    assert found == [b"x" * LONGEST, b"next\n", b"y" * LONGEST]


@pytest.mark.parametrize(
    ("name", "octets", "why"),
    [
        ("none", None, "No such file"),
        ("po.log.gz", b"no gzip", "Not a gzipped file"),
        ("po.log.gz", gzip.compress(b"x" * 100, mtime=0)[:-9], "ended before"),
        (
            "po.log.gz",
            gzip.compress(random.Random(1).randbytes(99_999), mtime=0)[:50_000] + b"\xff" * 20_000,
            "cannot be read",
        ),
        ("po.log.xz", b"no xz", "not supported"),
        ("po.log.bz2", b"no bzip", "Invalid data"),
    ],
)
def test_what_cannot_be_read_is_told(put, tmp_path, name, octets, why):
    if octets is not None:
        put(name, octets, 1)
    with pytest.raises(LogUnreadable, match=f"{name} cannot be read.*{why}|{why}"):
        list(LogFiles([str(tmp_path / name)]).lines())


@pytest.mark.skipif(not shutil.which("journalctl"), reason="there is no journalctl")
def test_journalctl_is_asked_and_its_failure_is_told(tmp_path):
    assert list(SystemdJournal(more=[f"--directory={tmp_path}"]).lines()) == []
    with pytest.raises(LogUnreadable, match=r"journalctl failed: .*No such file"):
        list(SystemdJournal(more=[f"--file={tmp_path}/no-such"]).lines())


def test_without_journalctl_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LogUnreadable, match="journalctl cannot be run: No such file"):
        list(SystemdJournal().lines())


def test_journalctl_ends_when_reading_stops(monkeypatch, tmp_path):
    endless = tmp_path / "journalctl"
    endless.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec {shutil.which('yes')}\n")
    endless.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    lines = SystemdJournal().lines()
    assert next(lines) == b"y\n"
    lines.close()
    pid = int((tmp_path / "pid").read_text())
    done = subprocess.run(["kill", "-0", str(pid)], capture_output=True)
    assert done.returncode != 0
