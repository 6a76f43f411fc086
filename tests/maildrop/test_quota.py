"""Whether there is room in a maildrop, counted exactly whoever else is at it."""

from __future__ import annotations

import os

import pytest

from postoffice.address import Quota
from postoffice.maildrop import admitting, files

LIMIT = Quota(1000, 2, "reject")


@pytest.mark.parametrize("made", [(), ("",), ("", "/tmp"), ("", "/tmp", "/new")])
def test_a_maildrop_that_is_just_being_made_has_room(tmp_path, made):
    folder = f"{tmp_path}/joe"
    for name in made:
        os.mkdir(folder + name)
    assert admitting.admits(folder, LIMIT, 1000)
    assert not admitting.admits(folder, LIMIT, 1001)
    files.make(folder)
    assert admitting.admits(folder, LIMIT, 1000)
