"""The texts of the page: all are translated; sizes, times and hostile text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.web.formats import Formats
from postoffice.web.hostile_text import visible
from postoffice.web.languages import LANGUAGES, catalogue, chosen
from tests.web.texts import of_code, of_templates
from tests.web.whole_site import NOW

FACT = re.compile(r"%\(\w+\)s|<[^>]+>")


@pytest.mark.parametrize("language", list(LANGUAGES)[1:])
def test_every_text_is_translated_and_no_other(language):
    texts = of_templates() | of_code()
    assert texts ^ (catalogue(language).keys() - {""}) == set()


@pytest.mark.parametrize("language", list(LANGUAGES)[1:])
def test_translations_have_the_same_facts(language):
    for english, texts in catalogue(language).items():
        if english:
            assert all(texts), english
            assert sorted(FACT.findall(english.replace("one more", "%(count)s more"))) == sorted(
                FACT.findall(texts[-1])
            ), english


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT, en;q=0.9", "de"),
        ("en;q=0.5, de;q=0.9", "de"),
        ("fr", "en"),
        ("de;q=0", "en"),
        ("de;q=x, en;q=0.1", "en"),
        ("*", "en"),
    ],
)
def test_the_language_is_the_best_that_the_browser_accepts(accepted, language):
    assert chosen("", accepted) == language


@pytest.mark.parametrize(
    ("octets", "english", "german"),
    [
        (0, "0 bytes", "0 Byte"),
        (999, "999 bytes", "999 Byte"),
        (1000, "1 KiB", "1 KiB"),
        (1500, "1.5 KiB", "1,5 KiB"),
        (102_300, "100 KiB", "100 KiB"),
        (1 << 30, "1 GiB", "1 GiB"),
        (1_288_490, "1.2 MiB", "1,2 MiB"),
        (5 << 50, "5120 TiB", "5120 TiB"),
    ],
)
def test_sizes(octets, english, german):
    for language, text in (("en", english), ("de", german)):
        assert Formats(language, lambda: NOW).size(octets).replace("\u00a0", " ") == text


def test_times_are_told_in_words():
    words = Formats("en", lambda: NOW)
    assert words.ago(NOW) == "just now"
    assert words.ago(NOW + 5) == "just now"
    assert "2027" in words.ago(NOW + 90)
    assert words.ago(NOW - 60) == "1 minute ago"
    assert words.ago(NOW - 7300) == "2 hours ago"
    assert words.ago(NOW - 86400 * 3) == "3 days ago"
    assert re.fullmatch(r"\d+ \w+ \d{4}, \d\d:\d\d", words.ago(NOW - 86400 * 400))
    assert words.duration(90 * 86400) == "90 days"
    assert words.duration(5400) == "90 minutes"
    assert Formats("de", lambda: NOW).duration(1) == "1 Sekunde"


def test_hidden_characters_are_written_out():
    assert visible("in\u202ereverse") == "in⟨U+202E⟩reverse"
    assert visible("a\x00b\x1b[31m") == "a⟨U+0000⟩b⟨U+001B⟩[31m"
    assert visible("two\r\nlines\t") == "two  lines "
    assert visible("z\u0301\u0301\u0301\u0301a") == "z\u0301\u0301\u0301⟨U+0301⟩a"
    assert visible("x" * 1000) == "x" * 300 + "…"


@given(st.text())
def test_nothing_hidden_is_left(text):
    shown = visible(text)
    assert all(one.isprintable() or one.isspace() for one in shown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x1f\x7f]", shown)
