"""The fetch log is rewritten while another process sweeps the maildrop."""

from __future__ import annotations

import os
import time

from postoffice.store import cleanup, fetch_log, files


def test_nobody_sweeps_it_while_it_is_written(tmp_path, monkeypatch):
    folder = str(tmp_path / "example.net" / "joe")
    files.make(folder)
    real, swept = os.fsync, []

    def fsync(fd):
        swept.append(cleanup.sweep(folder, time.time()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    record = fetch_log.FetchRecord({"u": {"": 1.0}}, {}, {"": 1.0})
    fetch_log.rewrite(folder, record, {"u"})
    assert swept == [0]
    assert fetch_log.read(folder).collected("u") == 1.0
    assert os.listdir(f"{folder}/tmp") == []
