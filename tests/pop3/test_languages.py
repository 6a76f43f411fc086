"""Replies in several languages, and which one a client gets."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from postoffice.pop3 import texts
from postoffice.pop3.languages import DEFAULT, LANGUAGES, Text, chosen, tags

TEXTS = {name: text for name, text in vars(texts).items() if isinstance(text, Text)}


def facts(said: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(said) if name is not None}


def test_every_language_has_every_text():
    assert set(tags()) == set(LANGUAGES)
    for name, text in TEXTS.items():
        assert all(getattr(text, tag) for tag in LANGUAGES), name


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_has_the_same_facts_in_all_languages_and_fits_a_line(name):
    """512 octets, CRLF, the code and the facts included (RFC 2449 §4)."""
    for tag in LANGUAGES:
        said = getattr(TEXTS[name], tag)
        assert facts(said) == facts(TEXTS[name].en)
        assert said.isprintable()
        assert not said.startswith("[")
        assert len(said.encode()) < 256


def test_english_is_ascii_for_it_is_spoken_before_anything_was_asked():
    assert DEFAULT == "en"
    for name, text in TEXTS.items():
        assert text.en.isascii(), name


def test_nothing_is_said_to_people_but_what_is_in_the_table():
    """The greeting comes before anybody could ask, as what is said without a session does."""
    for path in Path(texts.__file__).parent.glob("*.py"):
        said = re.findall(r'"(?:\+OK|-ERR)(?: \[[^]]+\])? [A-Za-z][^"]*', path.read_text())
        early = re.compile("ready|too many conn|is starting")
        assert [one for one in said if not early.search(one)] == []


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("de-Latn-CH-1996", "de"),
        ("ja-JP", "ja"),
        ("*", "en"),
        ("d", None),
        ("sv", None),
        ("deu", None),
        ("de-", None),
        ("de_AT", None),
        ("*-DE", None),
        ("", None),
        ("ü", None),
    ],
)
def test_a_range_means_the_longest_beginning_of_it_that_is_spoken(wanted, tag):
    assert chosen(wanted) == tag


def test_what_others_say_in_english_is_said_in_general_elsewhere_and_its_id_too():
    english = "A fault of ours; please try again later (1a2b.3)"
    assert texts.LATER.like(english, "en") == english
    assert texts.LATER.like(english, "de") == f"{texts.LATER.de} (1a2b.3)"
    assert texts.LATER.like("No space", "de") == texts.LATER.de
    assert texts.LATER.like("für später", "en") == "f?r sp?ter"
