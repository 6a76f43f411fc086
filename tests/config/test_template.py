"""The table of keys as people read it."""

from __future__ import annotations

from pathlib import Path

import yaml

from postoffice.config import loader
from postoffice.config.schema import Section, keys_of
from postoffice.config.settings import Settings
from postoffice.config.template import reference, template
from postoffice.daemon.build import find_maker, makers
from postoffice.interfaces import IDirectoryMaker, IPolicyMaker, IStoreMaker
from postoffice.model.config_values import REQUIRED

EXAMPLE = {"hostname": "mail.example.net", "postmaster": "postmaster@example.net"}
SHIPPED = Path(__file__).parent.parent.parent / "etc" / "postoffice.yaml"


def test_the_shipped_configuration_is_what_init_writes():
    assert SHIPPED.read_text() == template(EXAMPLE, find_maker)


def test_what_is_written_says_what_is_the_default():
    written = loader.read(template(EXAMPLE, find_maker), "FILE", find_maker)
    least = "\n".join(f"{key}: {value}" for key, value in EXAMPLE.items())
    default = loader.read(least, "FILE", find_maker)
    assert written == default


def test_every_key_is_explained():
    text = template(EXAMPLE, find_maker)
    lines = text.splitlines()
    for entry in keys_of(Settings):
        inner = entry.kind.keys if isinstance(entry.kind, Section) else ()
        below = "  " if entry.default is not None else "#   "
        for indent, key in (("", entry), *((below, key) for key in inner)):
            starts = (f"{indent}{key.name}:", f"{indent}# {key.name}:")
            heads = (f"{entry.name}:", f"# {entry.name}:")
            head = next(n for n, line in enumerate(lines) if line.startswith(heads))
            at = next(n for n in range(head, len(lines)) if lines[n].startswith(starts))
            assert lines[at - 1].lstrip().startswith("# "), key.name
            assert key.text
            assert key.text.split()[0] in text


def test_what_has_no_default_is_shown_as_an_example():
    lines = template({}, find_maker).splitlines()
    for key in keys_of(Settings):
        if key.default in (None, REQUIRED):
            assert f"# {key.name}: {key.example or ''}".rstrip() in lines


def test_a_section_in_comments_is_the_default_when_its_comment_signs_are_taken_away():
    text = template(EXAMPLE, find_maker)
    above, head, section = text.partition("# outbound:\n")
    section, blank, below = section.partition("\n\n")
    section = "".join(line.removeprefix("# ") for line in (head + section).splitlines(True))
    section += blank + below
    assert loader.read(text, "FILE", find_maker).outbound is None
    default = loader.read(f"{above}outbound: {{}}", "FILE", find_maker).outbound
    assert loader.read(above + section, "FILE", find_maker).outbound == default
    chosen = template(EXAMPLE | {"outbound.ip": "v4"}, find_maker)
    assert loader.read(chosen, "FILE", find_maker).outbound.ip == "v4"


def test_values_stand_as_they_were_given():
    odd = {
        **EXAMPLE,
        "state": "a: #b 'c\"",
        "listeners.smtp": ["unix:/x y:mode=600", "tcp:25"],
        "listeners.pop3": [],
        "limits.errors": 7,
        "accounts.path": "yes",
    }
    found = yaml.safe_load(template(odd, find_maker))
    assert found["state"] == odd["state"]
    assert found["listeners"]["smtp"] == odd["listeners.smtp"]
    assert found["listeners"]["pop3"] == []
    assert found["limits"]["errors"] == 7
    assert found["accounts"][0]["path"] == "yes"


def test_no_line_is_too_long_to_read():
    assert max(map(len, SHIPPED.read_text().splitlines())) <= 100


def test_the_reference_has_every_key_and_every_kind():
    plugins = {
        "accounts": makers(IDirectoryMaker),
        "store": makers(IStoreMaker),
        "policies": makers(IPolicyMaker),
    }
    text = reference(maker for found in plugins.values() for maker in found)
    for entry in keys_of(Settings):
        assert f"\n{entry.name}\n---" in f"\n{text}"
        for key in entry.kind.keys if isinstance(entry.kind, Section) else ():
            assert f"\n{entry.name}.{key.name}\n~~~" in text
    for name, found in plugins.items():
        for maker in found:
            assert f"\n{name}: kind {maker.kind}\n~~~" in text
