"""Modes are set on what is there, never on what a link leads to."""

from __future__ import annotations

import os

import pytest

from postoffice.util import file_modes
from postoffice.util.file_modes import set_mode


@pytest.fixture(params=["descriptors", "no descriptors"])
def way(request, monkeypatch):
    if request.param == "no descriptors":
        if os.chmod not in os.supports_follow_symlinks:
            followed = os.chmod

            def chmod(path, mode, **_):
                followed(path, mode)

            monkeypatch.setattr(file_modes.os, "chmod", chmod)
        monkeypatch.setattr(file_modes, "_NAMES", 0)


def mode(path) -> int:
    return os.stat(path).st_mode & 0o777


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("before", "after"), [(0o644, 0o600), (0o000, 0o600), (0o600, 0o600)])
def test_a_file_of_ones_own(tmp_path, before, after):
    path = tmp_path / "file"
    path.touch()
    path.chmod(before)
    set_mode(str(path), 0o600)
    assert mode(path) == after


@pytest.mark.usefixtures("way")
def test_a_folder(tmp_path):
    (tmp_path / "folder").mkdir(mode=0o755)
    set_mode(str(tmp_path / "folder"), 0o700)
    assert mode(tmp_path / "folder") == 0o700


@pytest.mark.usefixtures("way")
def test_only_what_the_mask_looks_at(tmp_path):
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o400)
    set_mode(str(path), 0o600, where=0o077)
    assert mode(path) == 0o400


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", ["symlink", "link", "symlink to a folder", "fifo"])
def test_what_a_link_leads_to_stays_as_it_is(tmp_path, kind):
    victim, planted = tmp_path / "victim", tmp_path / "planted"
    if kind == "symlink to a folder":
        victim.mkdir(mode=0o755)
        planted.symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(victim)
        os.rename(victim, planted)
        os.symlink(planted, victim)
    else:
        victim.touch()
        getattr(os, kind)(victim, planted)
    victim.chmod(0o755)
    set_mode(str(planted), 0o600)
    assert mode(victim) == 0o755


@pytest.mark.usefixtures("way")
def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        set_mode(str(tmp_path / "nothing"), 0o600)
