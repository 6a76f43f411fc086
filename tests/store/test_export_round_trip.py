"""Any maildrop that is exported and imported again: the same list, dates, flags and texts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postoffice.interfaces import ExportTarget, ImportSource
from postoffice.interfaces.maintenance import no_progress
from postoffice.store import files, maildir, names, text
from postoffice.store.journal.redo import journal_of
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.transfer import export_maildrop, import_maildrop

LINES = st.sampled_from(
    [b"From here", b">From here", b">>From x", b"From", b">", b".", b"", b"x", b"a: b", b"\xff\0"]
    + [b"Subject: x", b"From x Sat Jan  3 01:05:34 1996"]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r\n", b"\r\r\n", b"\r", b"\r\r"])
TEXTS = st.lists(st.tuples(LINES, ENDS), max_size=8).map(lambda them: b"".join(map(b"".join, them)))
UIDLS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=70)
MESSAGES = st.lists(
    st.tuples(
        st.one_of(st.none(), UIDLS),
        st.sampled_from(["new", "cur"]),
        st.sets(st.sampled_from("DFRST")),
        TEXTS,
        st.integers(1, 2**31),
    ),
    max_size=6,
    unique_by=lambda one: one[0] if one[0] is not None else object(),
)


def fill(folder: str, messages) -> None:
    files.make(folder)
    for place, (uidl, box, flags, octets, when) in enumerate(messages, 1):
        name = names.new_name("h")
        if uidl is not None:
            name = names.with_import(name, uidl, place)
        path = f"{folder}/{box}/{name}"
        if box == "cur":
            path += f":2,{''.join(sorted(flags))}"
        Path(path).write_bytes(octets)
        os.utime(path, (when, when))


def told(folder: str, *, dates: bool) -> list[tuple[object, ...]]:
    """What a maildrop has: each message's UIDL, size, flags, date if it was imported, text."""
    found = []
    for entry in maildir.scan(folder, MeasuredSizes()).entries:
        path = Path(folder, entry.name)
        flags = path.name.partition(":2,")[2]
        date = int(path.stat().st_mtime) if dates and names.imported(path.name) else 0
        sent = text.normal(path.read_bytes())
        found.append((entry.uidl, entry.size, entry.name[:3], flags, date, sent))
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store that syncs its files itself, and its journal."""
    path = tmp_path_factory.mktemp("store")
    journal = journal_of(str(path), lambda *_: None)
    journal.open("files", asked=True)
    yield path, journal
    journal.close()


@pytest.mark.parametrize("form", ["maildir", "mbox"])
@settings(max_examples=30, deadline=None)
@given(messages=MESSAGES)
def test_what_was_exported_comes_back(store, form, messages):
    path, journal = store
    with tempfile.TemporaryDirectory(dir=path) as base:
        out, one, other = f"{base}/out", f"{base}/one", f"{base}/other"
        fill(one, messages)
        export_maildrop.take_out(one, ExportTarget(out, (), form), no_progress)
        import_maildrop.bring_in(other, ImportSource(out), journal, "h", no_progress)
        assert told(other, dates=False) == told(one, dates=False)
        dated = [row for row in told(one, dates=True) if row[4]]
        uidls = {row[0] for row in dated}
        assert [row for row in told(other, dates=True) if row[0] in uidls] == dated
