"""A maildrop that has changed a little since the last login: the listing is right."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postoffice.store import maildir
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.maildir import scan

NAMES = [
    *(f"{1_700_000_000 + n}.M00000{n}P1Q{n}R00000000.host,S=3,W=3" for n in range(8)),
    *(
        f"170000000{n}.M000000P1Q{n}R00000000.host,U={uidl},O={place},S=3,W=3"
        for n, uidl, place in ((3, "old.2", 2), (4, "old.1", 3), (9, "old.2", 1), (6, "~YS9i", 2))
    ),
    "1700000005.M1P1.foreign",
    "1700000009.M1P1.foreign,S=2",
    "strange",
    ".hidden",
]
FILES = st.tuples(st.sampled_from(["new", "cur"]), st.sampled_from(NAMES))
ACTIONS = st.one_of(
    st.tuples(st.just("come"), FILES),
    st.tuples(st.just("go"), FILES),
    st.tuples(st.just("move"), FILES),
    st.tuples(st.just("flag"), FILES),
    st.tuples(st.just("folder"), FILES),
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "joe"


def act(folder, action: str, box: str, name: str) -> None:
    path = folder / box / name
    match action:
        case "come" if not path.exists():
            path.write_bytes(b"x\r\n")
        case "folder" if not path.exists():
            path.mkdir()
        case "go" if path.is_file():
            path.unlink()
        case "move" if path.is_file() and not (folder / "cur" / name).exists():
            path.rename(folder / "cur" / name)
        case "flag" if path.is_file():
            path.rename(folder / "cur" / f"{name}:2,S")


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(ACTIONS, max_size=6), max_size=6))
def test_what_has_changed_is_found(folder, rounds):
    shutil.rmtree(folder, ignore_errors=True)
    for box in ("new", "cur", "tmp"):
        (folder / box).mkdir(parents=True)
    sizes, snapshot = MeasuredSizes(), None
    for actions in rounds:
        for action, (box, name) in actions:
            act(folder, action, box, name)
        snapshot = scan(str(folder), sizes, snapshot)
        assert snapshot.entries == scan(str(folder), MeasuredSizes()).entries


def test_what_was_there_is_not_looked_at_when_something_comes_or_goes(folder, monkeypatch):
    for box in ("new", "cur", "tmp"):
        (folder / box).mkdir(parents=True)
    for name in NAMES[:6]:
        act(folder, "come", "new", name)
    before = scan(str(folder), MeasuredSizes())
    looked_at = []
    really = maildir._entry

    def look(box, item, *more):
        looked_at.append(item.name)
        return really(box, item, *more)

    monkeypatch.setattr(maildir, "_entry", look)
    act(folder, "come", "new", NAMES[6])
    act(folder, "go", "new", NAMES[2])
    after = scan(str(folder), MeasuredSizes(), before)
    assert looked_at == [NAMES[6]]
    assert [os.path.basename(entry.name) for entry in after.entries] == [
        *NAMES[:2],
        *NAMES[3:7],
    ]
    assert list(after.entries.sizes) == [3] * 6
