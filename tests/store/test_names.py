"""Names of maildrops and messages."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.store.names import (
    Imported,
    Measured,
    Sizes,
    folder_of,
    imported,
    is_ours,
    new_name,
    order_of,
    sizes_of,
    time_of,
    uidl_of,
    uidl_of_file,
    unique_part,
    with_import,
    with_right_sizes,
    with_sizes,
)

NAMES = st.text(st.characters(exclude_categories=()), max_size=30)


@given(NAMES, NAMES)
def test_a_folder_never_leaves_the_store(local, domain):
    folder = folder_of(f"{local}@{domain}")
    assert folder.count("/") == 1
    for part in folder.split("/"):
        assert part
        assert not part.startswith(".")
        assert part.isascii()
        assert part.isprintable()
    assert os.path.normpath(f"/store/{folder}") == f"/store/{folder}"


@given(st.lists(st.tuples(NAMES, NAMES.filter(lambda name: "@" not in name)), unique=True))
def test_different_maildrops_lie_in_different_folders(pairs):
    assert len({folder_of(f"{local}@{domain}") for local, domain in pairs}) == len(pairs)


def test_a_plain_name_is_its_folder():
    assert folder_of("joe.doe+x@example.net") == "example.net/joe.doe+x"


def test_new_names_are_new_and_in_order():
    made = [new_name("mail.example.net") for _ in range(1000)]
    assert len(set(made)) == 1000
    assert sorted(made, key=lambda name: order_of(name, 0)[:2]) == made
    for name in made:
        assert is_ours(name)
        assert len(name) <= 70
        assert uidl_of(unique_part(with_sizes(name, 5) + ":2,S")) == name


def test_new_names_are_new_on_all_threads_and_behind_a_fork():
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, "\n".join(new_name("h") for _ in range(300)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with ThreadPoolExecutor(4) as threads:
        ours = list(threads.map(lambda _: new_name("h"), range(2000)))
    with os.fdopen(reading) as file:
        theirs = file.read().split("\n")
    os.waitpid(child, 0)
    assert len(set(ours) | set(theirs)) == 2300
    assert all(map(is_ours, theirs))


def test_a_host_name_of_any_kind_makes_a_plain_name():
    name = new_name("ü/..:,very-long-host-name.example.net")
    assert "/" not in name
    assert unique_part(name) == name
    assert len(name) <= 70


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("1.a.h,S=5,W=7", (5, 7)),
        ("1.a.h,S=5,W=7:2,FS", (5, 7)),
        ("1.a.h,W=7,S=5:2,", (5, 7)),
        ("1.a.h,S=5", (5, None)),
        ("1.a.h:2,S", (None, None)),
        ("1.a.h:2,S=5,W=7", (None, None)),
        ("1.a.h,S=x,W=", (None, None)),
        ("1.a.h,S=5x,W=7", (None, 7)),
        ("1.a.h,S=99999999999999999999", (None, None)),
        ("1.a.h,S=5,W=7,D=9", (5, 7, None)),  # of another program, whatever it means there
        ("1.a.h,S=5,W=7,H=9", (5, 7, None)),
        ("1.M000000P1Q1R00000000.h,S=5,W=7,H=9:2,S", (5, 7, 9)),
        ("1.M000000P1Q1R00000000.h,S=5,W=7,D=9:2,S", (5, 7, None, True)),
        ("1.M000000P1Q1R00000000.h,S=5,W=7,D=0,H=9", (5, 7, 9, True)),
    ],
)
def test_what_a_name_says_of_sizes(name, sizes):
    assert sizes_of(name) == Sizes(*sizes)


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1))
def test_any_file_has_a_uidl(name):
    uidl = uidl_of(unique_part(name))
    assert 1 <= len(uidl) <= 70
    assert all("!" <= letter <= "~" for letter in uidl)
    assert uidl_of(unique_part(name + ":2,RS")) == uidl


# -- what is imported ----------------------------------------------------------------------------

UIDLS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=70)
#: The longest of all: a pid of 22 bits, sizes of terabytes, and each flag that Maildir knows.
LONGEST = "17645211233.M123456P4194304Q9999999999R01234567.abcdefghijklmnopqrst"


@given(UIDLS, st.integers(0, 10**12 - 1), st.sampled_from(["", ":2,", ":2,DFPRST", ":2,Sabc"]))
def test_an_imported_name_keeps_its_uidl_and_its_place(uidl, place, flags):
    name = with_sizes(with_import(LONGEST, uidl, place), 10**12, ends=False, downgraded=10**12)
    assert len(f"{name}:2,DFPRST") <= 250
    assert not set(name) & set("/:\0 ")
    assert imported(name + flags) == Imported(uidl, place)
    assert uidl_of_file(name + flags) == uidl
    assert order_of(name + flags, 5)[0] < 0
    assert time_of(name + flags, 5) == 17645211233
    assert sizes_of(name + flags) == Sizes(10**12, 10**12 + 2, 10**12)
    right = with_right_sizes(f"cur/{name}{flags}", Measured(7), 5)
    assert uidl_of_file(right.removeprefix("cur/")) == uidl
    assert sizes_of(right.removeprefix("cur/")) == Sizes(5, 7)


@given(UIDLS)
def test_each_uidl_is_written_in_one_way(uidl):
    field = with_import(LONGEST, uidl, 1).removeprefix(f"{LONGEST},U=").removesuffix(",O=1")
    if field == uidl:
        assert uidl_of_file(with_import(LONGEST, uidl, 1)) == uidl
    else:  # an encoding of nothing else, and of no UIDL that needs none
        assert field.startswith("~")


@pytest.mark.parametrize(
    "name",
    [
        "1.a.h,U=old,O=1",  # of another program, whatever it means there
        f"{LONGEST},U=,O=1",
        f"{LONGEST},U=old",
        f"{LONGEST},U=old,O=1x",
        f"{LONGEST},U=~!!,O=1",
        f"{LONGEST},U=~b2xk,O=1",  # "old", which needs no encoding
        f"{LONGEST},U=~AAAA,O=1",
        f"{LONGEST},U=~_,O=1",
        f"{LONGEST}:2,U=old,O=1",
    ],
)
def test_what_nobody_imported_has_a_uidl_of_its_own(name):
    assert imported(name) is None
    assert uidl_of_file(name) == uidl_of(unique_part(name))
    assert order_of(name, 5)[0] > 0


@pytest.mark.parametrize("uidl", ["", "a b", "x" * 71, "ü", "a\n"])
def test_what_is_no_uidl_is_not_written_into_a_name(uidl):
    with pytest.raises(ValueError, match="no UIDL"):
        with_import(LONGEST, uidl, 1)
