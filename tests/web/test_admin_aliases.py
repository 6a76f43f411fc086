"""Administrators add, change and remove aliases, with the checks of ``postoffice alias``."""

from __future__ import annotations

import pytest

from postoffice.accounts.alias_changes import find_alias
from postoffice.model.address import Address
from postoffice.model.alias import DISCARD, REFUSE, Alias
from postoffice.testing import finish
from tests.web.test_admin import boss, lines, logged  # noqa: F401
from tests.web.whole_site import ADMIN, ANNA, BERT, PASSWORD

MANY, ONE = "/admin/aliases", "/admin/aliases/one"
INFO = "info@example.net"


@pytest.fixture
def page(boss):  # noqa: F811
    """The administrator's browser, with the list."""
    assert boss.get(MANY).status == 200
    return boss


def known(site, name=INFO):
    return finish(find_alias(site.directory, name))


def filled(**other):
    return {"kind": "forward", "targets": ANNA, "words": "", **other}


def test_an_alias_is_added_changed_and_removed(site, page, lines):  # noqa: F811
    page.post(f"{MANY}/add", address="Info@example.net", **filled(words="of another kind"))
    assert f"The alias {INFO} was added." in page.follow().body.decode()
    assert known(site) == Alias(INFO, (Address.parse(ANNA),))

    targets = f"{BERT}\r\n\r\n {ANNA} \r\n{BERT}"
    page.post(f"{ONE}/set", name=INFO, **filled(targets=targets, send="yes"))
    page.follow()
    assert known(site) == Alias(INFO, (Address.parse(BERT), Address.parse(ANNA)), send=True)
    assert f"{BERT}\n{ANNA}" in page.text
    page.post(f"{ONE}/set", name=INFO, **filled(kind="refuse", words="She <left>"))
    assert known(site) == Alias(INFO, kind=REFUSE, words="She <left>")
    assert "She &lt;left&gt;" in page.follow().body.decode()
    page.post(f"{ONE}/set", name=INFO, **filled(kind="discard"))
    assert known(site) == Alias(INFO, kind=DISCARD)

    page.follow()
    page.post(f"{ONE}/remove", name=INFO, **filled())
    assert f"The alias {INFO} was removed." in page.follow().body.decode()
    assert known(site) is None
    assert all(f"account={INFO} by={ADMIN}" in line for line in lines())
    for said, line in zip(
        (f"added: {ANNA}", f"{ANNA} -> {BERT}, {ANNA}; each target may send as it: yes",
         "-> refused: She <left>", "-> discarded", "removed: discarded"), lines(), strict=True,
    ):  # fmt: skip
        assert said in line


REFUSED = {
    "taken": ({"address": "old@example.net"}, "is here already"),
    "an account": ({"address": BERT}, "is an account"),
    "of another domain": ({"address": "joe@far.example"}, "not a domain of ours"),
    "no address": ({"address": "x"}, "x"),
    "no target": ({"targets": " "}, "has no targets"),
    "an unknown target": ({"targets": "nobody@example.net"}, "there is no such address"),
    "a target that is no address": ({"targets": f"{ANNA}\nx"}, "x"),
    "itself": ({"targets": INFO}, "cannot have these targets"),
    "too many": ({"targets": "\n".join(f"u{n}@far.example" for n in range(101))}, "are the most"),
    "no words": ({"kind": "refuse"}, "needs words"),
}


@pytest.mark.parametrize(("change", "why"), REFUSED.values(), ids=REFUSED)
def test_what_the_command_refuses_is_refused(site, page, lines, change, why):  # noqa: F811
    finish(site.directory.add_alias(Alias("old@example.net", kind=DISCARD)))
    page.post(f"{MANY}/add", **filled(**{"address": INFO, **change}))
    text = page.follow().body.decode()
    assert 'class="message failed"' in text
    assert why in text
    assert known(site) is None
    assert known(site, "old@example.net") == Alias("old@example.net", kind=DISCARD)
    assert lines() == []


def test_a_loop_is_refused_when_an_alias_is_changed(site, page, lines):  # noqa: F811
    finish(site.directory.add_alias(Alias(INFO, (Address.parse(ANNA),))))
    finish(site.directory.add_alias(Alias("all@example.net", (Address.parse(INFO),))))
    page.post(f"{ONE}/set", name=INFO, **filled(targets="all@example.net"))
    assert "cannot have these targets" in page.follow().body.decode()
    assert lines() == []
    assert "all@example.net" in page.get(f"{ONE}?name={INFO}").body.decode()
    page.post(f"{ONE}/remove", name=INFO)
    assert f"all@example.net still leads to {INFO}" in page.follow().body.decode()


def test_what_is_not_there_cannot_be_changed(page):
    assert page.get(f"{ONE}?name={ANNA}").status == 404
    page.get(MANY)
    for act in ("set", "remove"):
        assert page.post(f"{ONE}/{act}", name=INFO, **filled()).status == 404
    assert page.post(f"{MANY}/add", address=INFO, **filled(kind="x")).status == 400


def test_the_password_is_asked_for_again_after_a_while(site, page):
    site.clock.advance(3600 / 4)
    assert "current_password" in page.get(MANY).body.decode()
    page.post(f"{MANY}/add", address=INFO, current_password="wrong", **filled())
    assert known(site) is None
    page.follow()
    page.post(f"{MANY}/add", address=INFO, current_password=PASSWORD, **filled())
    assert known(site) is not None


def test_aliases_that_are_only_read_are_shown_and_not_changed(site, page):
    finish(site.directory.add_alias(Alias(INFO, (Address.parse(ANNA),))))

    class Reading:
        """Knows the aliases, and writes nothing."""

        find, serves = site.directory.find, site.directory.serves

    office = site.context.administration
    office.directories = [Reading()]
    assert "Add an alias" not in page.get(MANY).body.decode()
    for act in (f"{MANY}/add", f"{ONE}/set", f"{ONE}/remove"):
        assert page.post(act, name=INFO, address=INFO, **filled()).status == 409
