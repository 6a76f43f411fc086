"""Dovecot's and Courier's lists of UIDLs: each form of them, and anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.store.transfer.import_uidls import (
    UIDL_FORMAT,
    OldName,
    courier,
    dovecot,
    uidl_format,
)

FACTS = {"uid": "17", "uidvalidity": "1467912345", "filename": "1.Ab.h", "guid": "beef"}


@pytest.mark.parametrize(
    ("form", "uidl"),
    [
        (UIDL_FORMAT, "00000011577e9099"),
        ("%08Xv%08Xu", "577e909900000011"),
        ("%v.%u", "1467912345.17"),
        ("UID%u-%v", "UID17-1467912345"),
        ("%u", "17"),
        ("%f", "1.Ab.h"),
        ("%Lf", "1.ab.h"),
        ("%Uf", "1.AB.H"),
        ("%Mf", "68ba3dbfa7be3a898578a1f4674e52b9"),
        ("%4f", "1.Ab"),
        ("%g", "beef"),
        ("%%%g", "%beef"),
        ("%{uid}", "17"),
        ("%{uid | hex(8)}%{uidvalidity | hex(8)}", "00000011577e9099"),
        ("%{filename}", "1.Ab.h"),
        ("%{guid|upper}", "BEEF"),
        ("%{uid | hex}", "11"),
        ("%{uidvalidity | hex(4)}%{uid}", "909917"),
        ("%{filename | md5}", "68ba3dbfa7be3a898578a1f4674e52b9"),
        ("%{filename | md5 | hexlify(8)}", "68ba3dbf"),
        ("%{filename | md5 | substr(4, 4)}", "a7be3a89"),
        ("%{filename | lower | truncate(4)}", "1.ab"),
        ("UID%{uid}-%{uidvalidity}", "UID17-1467912345"),
    ],
)
def test_the_formats_of_dovecot(form, uidl):
    assert uidl_format(form)(FACTS) == uidl


@pytest.mark.parametrize("form", ["", "x", "%v", "%m", "%x", "%u%", "%{size}", "%{uid|x}", "%Xf"])
def test_other_formats_are_refused(form):
    with pytest.raises(ValueError, match="pop3_uidl_format"):
        uidl_format(form)


@pytest.mark.parametrize("form", ["%m", "%{md5}", "%{md5 | upper | lower}", "%g"])
def test_the_digest_is_for_mboxes(form):
    assert uidl_format(form, "mbox")({"md5": "d1", "guid": "d1"}) == "d1"
    with pytest.raises(ValueError, match="pop3_uidl_format"):
        uidl_format("%f", "mbox")


def test_a_list_of_dovecot():
    text = (
        "3 V1467912345 N20 Gabc\n"
        "3 :1.a\n"
        "4 S10 W12 :2.b,S=10:2,S\n"
        "5 Pold-1 :3.c:2,\n"
        "6 P :4.d\n"
        "7 O2 Gguid :5.e\n"
        "8 O1 Px:y :6.f\n"
        "nonsense\n"
        "9 G1 :3.c:2,S\n"
    )
    names, damaged, _ = dovecot(text, "%u-%g")
    assert damaged == 1
    assert names == {
        "1.a": OldName("3-1.a", (1, 3)),
        "2.b,S=10": OldName("4-2.b,S=10", (1, 4)),
        "3.c": OldName("9-1", (1, 9)),
        "4.d": OldName("4.d", (1, 6), own=True),
        "5.e": OldName("7-guid", (0, 2)),
        "6.f": OldName("x:y", (0, 1), own=True),
    }


def test_a_list_of_an_old_dovecot():
    names, damaged, _ = dovecot("1 1467912345 20\n17 1.a:2,S\n", UIDL_FORMAT)
    assert (names, damaged) == ({"1.a": OldName("00000011577e9099", (1, 17))}, 0)


@pytest.mark.parametrize(
    ("text", "uidl"),
    [
        ("/3 8 99\n1.a 10 7:99:1\n", "UID7-99"),
        ("/2 8 99\n1.a 10 7:99\n", "UID7-99"),
        ("/2 8 99\n1.a 10 7:0\n", "UID7"),
        ("/1 8\n1.a 10 7\n", "UID7"),
        ("1.a 10\n", "1.a"),
        ("1.a:2,S 10\n", "1.a"),
        ("/2 8 99\n1.a 10 0:0\n", "1.a"),
    ],
)
def test_a_list_of_courier(text, uidl):
    assert courier(text) == ({"1.a": OldName(uidl, (0, 0))}, 0, 0)


def test_courier_writes_odd_octets_in_hex():
    ((name, old),) = courier("1.a b+'\u00e9 10\n").names.items()
    assert name == "1.a b+'\u00e9"
    assert old.uidl == "1.a+20b+2B+27+C3+A9"


@pytest.mark.parametrize("read", [courier, lambda text: dovecot(text, UIDL_FORMAT)])
@given(
    text=st.one_of(st.text(), st.text("/123 VNGPO:.,=\nab").map(lambda text: f"3 V1 N1\n{text}"))
)
def test_anything_can_be_read_or_is_refused(read, text):
    try:
        names, _ = read(text)
    except ValueError:
        return
    assert all(names)
    assert all(old.uidl for old in names.values())


NAMES = st.text(st.characters(exclude_characters="/\0\n:"), min_size=1, max_size=20)


@given(st.dictionaries(NAMES, st.integers(1, 2**32 - 1), max_size=5))
def test_each_file_has_what_dovecot_wrote(uids):
    text = "".join(f"{uid} :{name}:2,S\n" for name, uid in uids.items())
    names, damaged, _ = dovecot(f"3 V9 N1 Gx\n{text}", "%u")
    assert damaged == 0
    assert names == {name: OldName(str(uid), (1, uid)) for name, uid in uids.items()}
