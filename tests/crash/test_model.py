"""What the model of a disk says that a power cut may leave."""

from __future__ import annotations

from random import Random

import pytest
from crashes.disk import Disk, Model
from crashes.operations import (
    Link,
    Make,
    Rename,
    Resize,
    Sync,
    SyncAll,
    Unlink,
    Write,
)

ROOT, FILE, FOLDER, OTHER = 1, 2, 3, 4


@pytest.fixture
def model():
    """Of a disk with a folder in it."""
    return Model(Disk(ROOT, folders={ROOT: {"folder": FOLDER}, FOLDER: {}}))


def done(model, *operations):
    for operation in operations:
        model.do(operation)
    return model


def states(model) -> set[frozenset[tuple[str, bytes]]]:
    """Each state's files, by path."""
    found = list(model.states(Random(0), model.count()))
    return {
        frozenset(
            (path, disk.files[number]) for path, number in disk.walk() if number in disk.files
        )
        for disk in found
    }


def names(model) -> set[frozenset[str]]:
    return {frozenset(path for path, _ in files) for files in states(model)}


def octets(model) -> set[bytes]:
    return {content for files in states(model) for _, content in files}


def new_file(content: bytes = b"", *more) -> list:
    return [Make(ROOT, "a", FILE), Write(FILE, 0, content), Sync(ROOT, ""), *more]


def test_what_was_not_synced_is_there_or_not_in_part_or_as_zeros(model):
    content = bytes(range(1, 101)) * 20
    found = octets(done(model, *new_file(content)))
    assert {b"", content, bytes(2000), content[:1000]} < found
    assert content[:512].replace(content[:512], bytes(512)) + content[512:] in found
    assert names(model) == {frozenset({"/a"})}


def test_what_was_synced_is_there(model):
    done(model, *new_file(b"one"), Sync(FILE, ""))
    assert octets(model) == {b"one"}
    done(model, Write(FILE, 3, b"two"))
    assert octets(model) == {b"one", b"onetwo", b"one\0\0\0", b"onet"}
    done(model, SyncAll())
    assert octets(model) == {b"onetwo"}


def test_a_file_without_its_folder_synced_may_have_no_name(model):
    done(model, Make(ROOT, "a", FILE), Write(FILE, 0, b"one"), Sync(FILE, ""))
    assert states(model) == {frozenset(), frozenset({("/a", b"one")})}


def test_of_several_names_any_may_be_there(model):
    done(model, *new_file(), SyncAll(), Link(FILE, FOLDER, "b"), Link(FILE, FOLDER, "c"))
    done(model, Unlink(ROOT, "a"))
    assert len(names(model)) == 8
    assert names(done(model, Sync(FOLDER, ""))) == {
        frozenset({"/folder/b", "/folder/c"}),
        frozenset({"/a", "/folder/b", "/folder/c"}),
    }


@pytest.mark.parametrize("synced", [ROOT, FOLDER])
def test_a_rename_is_there_or_not_and_never_half(model, synced):
    done(model, *new_file(), SyncAll(), Rename(ROOT, "a", FOLDER, "b"))
    assert names(model) == {frozenset({"/a"}), frozenset({"/folder/b"})}
    assert names(done(model, Sync(synced, ""))) == {frozenset({"/folder/b"})}


def test_nothing_is_renamed_into_a_folder_that_is_not_there(model):
    done(model, *new_file(), SyncAll(), Make(ROOT, "new", OTHER, True))
    done(model, Rename(ROOT, "a", OTHER, "b"))
    assert names(model) == {frozenset({"/a"}), frozenset({"/new/b"})}


def test_a_new_folder_that_was_synced_may_have_no_name_itself(model):
    done(model, Make(ROOT, "new", OTHER, True), Make(OTHER, "b", FILE), Sync(OTHER, ""))
    assert names(model) == {frozenset(), frozenset({"/new/b"})}


def test_changes_of_one_name_come_in_their_order(model):
    done(model, Make(ROOT, "a", FILE), Write(FILE, 0, b"one"), Sync(FILE, ""))
    done(model, Make(ROOT, "b", OTHER), Write(OTHER, 0, b"two"), Sync(OTHER, ""))
    done(model, Rename(ROOT, "b", ROOT, "a"))
    found = {dict(files).get("/a") for files in states(model)}
    assert found == {None, b"one", b"two"}
    assert {"/a", "/b"} in names(model)
    done(model, Sync(ROOT, ""))
    assert states(model) == {frozenset({("/a", b"two")})}


def test_what_a_failed_sync_has_lost_is_not_found_by_the_next(model):
    done(model, *new_file(b"one"), Sync(FILE, "", failed=True), Write(FILE, 3, b"two"))
    done(model, Sync(FILE, ""), SyncAll())
    assert {b"onetwo", b"\0\0\0two"} <= octets(model)
    done(model, Write(FILE, 0, b"six"), Sync(FILE, ""))
    assert octets(model) == {b"sixtwo"}


def test_a_file_that_was_cut_may_be_as_long_as_before(model):
    done(model, *new_file(b"one"), Sync(FILE, ""), Resize(FILE, 0))
    assert octets(model) == {b"one", b""}


def test_an_inode_that_is_used_again_is_another_file(model):
    done(model, *new_file(b"one"), SyncAll(), Unlink(ROOT, "a"))
    done(model, Make(ROOT, "b", FILE), Write(FILE, 0, b"two"), Sync(FILE, ""))
    assert states(model) == {
        frozenset({("/a", b"one")}),
        frozenset({("/b", b"two")}),
        frozenset({("/a", b"one"), ("/b", b"two")}),
        frozenset(),
    }


def test_a_killed_process_leaves_all_that_it_did_and_half_of_a_write(model):
    done(model, *new_file(b"one"))
    found = [disk.files for disk in model.killed(Write(FILE, 3, b"four"))]
    assert [list(files.values()) for files in found] == [[b"one"], [b"onefo"]]


def test_where_there_are_too_many_states_there_are_as_many_as_are_wanted(model):
    for number in range(20):
        done(model, Make(ROOT, f"{number}", 10 + number))
    found = list(model.states(Random(0), 50))
    assert len(found) == 50
    assert len({disk.key() for disk in found}) > 40
