"""Which addresses an SPF record lets send."""

from __future__ import annotations

import pytest

from postoffice.doctor import spf
from postoffice.model.dns_answer import Answer, NoData, NoSuchName
from postoffice.testing import finish

V4, V6 = "11.22.33.44", "2a00:1:2::44"
NAMES = {
    ("mail.example", "A"): (V4,),
    ("mail.example", "AAAA"): (V6,),
    ("near.example", "A"): ("11.22.33.1",),
    ("d.example", "MX"): ((10, "mail.example"), (20, "near.example")),
    ("fine.example", "TXT"): (b"v=spf1 ip4:11.22.0.0/16 -all",),
    ("not.example", "TXT"): (b"v=spf1 -all",),
    ("loop.example", "TXT"): (b"v=spf1 include:loop.example -all",),
}


async def _ask(names, name, kind):
    if (name, kind) in names:
        return Answer(names[name, kind])
    return NoData() if any(other == name for other, _ in names) else NoSuchName()


def result(text, address=V4):
    names = {**NAMES, ("d.example", "TXT"): tuple(one.encode() for one in text)}
    evaluation = spf.Evaluation(lambda name, kind: _ask(names, name, kind), address)
    return finish(evaluation.result("d.example")), evaluation.why


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("v=spf1 ip4:11.22.33.44 -all", spf.PASS),
        ("v=spf1 ip4:11.22.33.0/24 -all", spf.PASS),
        ("v=spf1 ip6:2a00::/16 -all", spf.FAIL),
        ("v=spf1 mx ~all", spf.PASS),
        ("v=spf1 a:mail.example ?all", spf.PASS),
        ("v=spf1 a:near.example/24 -all", spf.PASS),
        ("v=spf1 a:near.example//64 -all", spf.FAIL),
        ("v=spf1 a:near.example/24//64 -all", spf.PASS),
        ("v=spf1 a ~all", spf.SOFTFAIL),
        ("v=spf1 ?all", spf.NEUTRAL),
        ("v=spf1", spf.NEUTRAL),
        ("v=spf1 -ip4:11.22.33.44 +all", spf.FAIL),
        ("v=spf1 include:fine.example -all", spf.PASS),
        ("v=spf1 include:not.example ~all", spf.SOFTFAIL),
        ("v=spf1 redirect=fine.example", spf.PASS),
        ("v=spf1 exists:mail.example -all", spf.PASS),
        ("v=spf1 exists:%{i}.example -all", spf.UNKNOWN),
        ("v=spf1 exp=x.example unknown=1 +all", spf.PASS),
        ("v=spf10 +all", spf.NONE),
        ("v=spf1 include:nowhere.example -all", spf.PERMERROR),
        ("v=spf1 include:loop.example -all", spf.PERMERROR),
        ("v=spf1 ipv4:1.2.3.4 -all", spf.PERMERROR),
        ("v=spf1 ip4:1.2.3 -all", spf.PERMERROR),
    ],
)
def test_one_record(record, expected):
    found, why = result([record])
    assert found == expected
    assert bool(why) == (expected == spf.PERMERROR)


def test_ipv6_and_two_records():
    assert result(["v=spf1 mx -all"], V6)[0] == spf.PASS
    assert result(["v=spf1 ip6:2a00:1:2::/48 -all"], V6)[0] == spf.PASS
    assert result(["v=spf1 mx -all", "v=spf1 -all"])[0] == spf.PERMERROR
