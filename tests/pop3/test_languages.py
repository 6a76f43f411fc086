"""Replies in several languages, and which one a client gets."""

from __future__ import annotations

import re
from ast import literal_eval
from configparser import ConfigParser
from pathlib import Path
from string import Formatter

import pytest

from postoffice.pop3 import languages
from postoffice.pop3.languages import DEFAULT, LANGUAGES, chosen, generalized, translated
from tests.test_replies import WELL, WRONG, pop3_texts

TEXTS = sorted(pop3_texts(*WELL, *WRONG))
FOLDER = Path(languages.__file__).parent
OTHERS = [tag for tag in LANGUAGES if tag != DEFAULT]
LATER = "a fault of ours; please try again later"


def facts(said: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(said) if name is not None}


@pytest.mark.parametrize("tag", OTHERS)
def test_every_language_has_every_text_once_and_no_other(tag):
    catalogue = (FOLDER / "catalogues" / f"{tag}.po").read_text()
    assert "fuzzy" not in catalogue
    english = [
        literal_eval(text) for text in re.findall(r'^msgid (".+")$', catalogue, re.MULTILINE)
    ]
    assert sorted(english) == TEXTS
    assert catalogue.count("\nmsgid ") == catalogue.count("\nmsgstr ") == len(TEXTS) + 1


def test_every_catalogue_is_a_language_and_is_installed():
    settings = ConfigParser()
    settings.read(FOLDER.parent.parent / "setup.cfg")
    assert settings["options.package_data"]["postoffice.pop3"].split() == ["catalogues/*.po"]
    assert sorted(path.stem for path in (FOLDER / "catalogues").iterdir()) == sorted(OTHERS)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_the_same_facts_in_all_languages_and_fits_a_line(text):
    """512 octets, CRLF, the code and the facts included (RFC 2449 §4)."""
    for tag in LANGUAGES:
        said = translated(text, tag)
        assert said
        assert facts(said) == facts(text)
        assert said.isprintable()
        assert not said.startswith("[")
        assert len(said.encode()) < 256


def test_english_is_ascii_for_it_is_spoken_before_anything_was_asked():
    assert DEFAULT == "en"
    assert [text for text in TEXTS if not text.isascii()] == []


def test_nothing_is_said_to_people_but_what_can_be_translated():
    """The greeting comes before anybody could ask, as what is said without a session does."""
    for path in FOLDER.glob("*.py"):
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
    assert generalized(LATER, english, "en") == english
    assert generalized(LATER, english, "de") == f"{translated(LATER, 'de')} (1a2b.3)"
    assert generalized(LATER, "No space", "de") == translated(LATER, "de")
    assert generalized(LATER, "für später", "en") == "f?r sp?ter"
