"""Something odd in the place of ``maildirsize``: no mail is lost or refused because of it."""

from __future__ import annotations

import os

import pytest

from postoffice.model.address import Quota
from postoffice.store import commit, files, maildir, maintenance, names, vault
from postoffice.store.drafts import Draft
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.quota import maildirsize

LIMIT = Quota(1000, 2, "reject")


@pytest.fixture
def joe(tmp_path):
    folder = tmp_path / "example.net" / "joe"
    files.make(str(folder))
    return folder


def odd(joe, kind) -> None:
    place = joe / "maildirsize"
    if kind == "folder":
        place.mkdir()
    elif kind == "full folder":
        place.mkdir()
        (place / "file").write_bytes(b"x")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to("/nowhere")
    elif kind == "link to a folder":
        place.symlink_to("/")
    elif kind == "unreadable":
        place.write_bytes(b"1000S,2C\n0 0\n")
        place.chmod(0)


KINDS = ("folder", "full folder", "fifo", "link", "link to a folder", "unreadable")


def applied(joe, octets=b"x\r\n"):
    [place] = files.find([str(joe)])
    draft = Draft([place], names.new_name("h"), "", {place: LIMIT})
    draft.parts.append(octets)
    return commit.commit_batch([draft])


@pytest.mark.parametrize("kind", KINDS)
def test_mail_comes_and_is_counted(joe, kind):
    odd(joe, kind)
    assert applied(joe) == [None]
    assert applied(joe) == [None]
    assert applied(joe) != [None], "two are as many as there may be"
    assert (joe / "maildirsize").is_file()
    fd = os.open(joe, os.O_RDONLY)
    assert maildirsize.usage(fd, LIMIT) == (6, 2)
    os.close(fd)


@pytest.mark.parametrize("kind", KINDS)
def test_mail_goes_and_comes_back(joe, kind):
    assert applied(joe) == [None]
    (joe / "maildirsize").unlink()
    odd(joe, kind)
    entries = maildir.scan(str(joe), MeasuredSizes()).entries
    maildir.remove(str(joe), entries, vault.path_of(str(joe), "me"))
    assert len(vault.bring_back(str(joe), "me", 0.0)) == 1
    assert not os.path.lexists(joe / "maildirsize")


def test_verify_tells_of_a_folder_and_puts_it_away(joe):
    odd(joe, "full folder")
    for repair in (False, True):
        [found] = maintenance.verify(str(joe), Quota(), repair=repair)
        assert (found.path, found.mended) == (f"{joe}/maildirsize", repair)
        assert "a folder" in found.what
    [found] = maintenance.verify(str(joe), LIMIT, repair=True)
    assert "was in the place of maildirsize" in found.what
    assert os.listdir(found.path) == ["file"]
    assert not found.mended
