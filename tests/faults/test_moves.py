"""An import of many maildrops is killed, and goes on: nothing twice, nothing missing."""

from __future__ import annotations

from random import Random

from faults.moving import Move


def test_an_import_that_was_killed_goes_on(tmp_path):
    move = Move(tmp_path, accounts=4, messages=60, random=Random(1))
    move.prepare()
    assert 70 <= move.kill_at(70) < 4 * 60, "it was killed in the middle"
    move.run()
    assert move.found() == []
