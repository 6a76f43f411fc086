"""The manual has an entry for each reply that refuses something, in the words of the code."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import postoffice
from postoffice.server.pop3 import POP3Factory

PACKAGE = Path(postoffice.__file__).parent
PAGE = Path(__file__).parent.parent / "docs" / "replies.rst"


def calls(*names: str, within: str = "**/*.py") -> Iterator[ast.Call]:
    """Where one of these is called, in the files of this pattern."""
    for path in sorted(PACKAGE.glob(within)):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if any(name in text for name in names) else ():
            if isinstance(node, ast.Call):
                called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if called in names:
                    yield node


def text_of(node: ast.expr) -> str:
    """A literal, with dots for what differs."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(one) for one in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "..."


def smtp_replies() -> set[tuple[str, str]]:
    """Each reply of 4yz and 5yz: its codes and its text."""
    found = set()
    for call in calls("Reply"):
        code, status, text = call.args
        if isinstance(code, ast.Constant) and int(str(code.value)) >= 400:
            found.add((f"{code.value} {text_of(status)}", text_of(text)))
    return found


def pop3_texts(*names: str) -> set[str]:
    """The texts, in English, that are handed to one of these: each is a literal."""
    found = set()
    for within in ("pop3/*.py", "server/pop3.py"):
        for call in calls(*names, within=within):
            text = call.args[0]
            for one in [text.body, text.orelse] if isinstance(text, ast.IfExp) else [text]:
                if isinstance(one, ast.Constant):
                    found.add(one.value)
                else:  # handed on
                    assert ast.unparse(one) in {"why", "no.text", "text"}
    return found - {None}


#: What makes a reply of its first argument: ``+OK``, and ``-ERR``.
WELL = ("ok", "translated")
WRONG = ("no", "_refuse", "dismiss", "generalized", "CommandFailed")


def pop3_replies() -> set[str]:
    """Each reply that is ``-ERR``, in English."""
    said = {re.sub(r"\{\w+\}", "...", text) for text in pop3_texts(*WRONG)}
    for octets in (POP3Factory.full, POP3Factory.not_yet):
        said.add(octets.decode().strip().partition("] ")[2])
    return said


def rows() -> list[list[str]]:
    lines = [line[3:] for line in PAGE.read_text().splitlines() if line.count(" | ") == 2]
    cells = csv.reader(lines, delimiter="|")
    found = [[cell.strip() for cell in row] for row in cells]
    return [row for row in found if row[0] != "Code"]


ROWS = rows()


def test_each_reply_of_smtp_has_its_entry_and_no_other_has():
    entries = [(row[0], row[1]) for row in ROWS if row[0][0].isdigit()]
    assert len(entries) == len(set(entries))
    assert set(entries) == smtp_replies()


def test_each_reply_of_pop3_has_its_entry_and_no_other_has():
    entries = [row[1] for row in ROWS if not row[0][0].isdigit()]
    assert len(entries) == len(set(entries))
    assert set(entries) == pop3_replies()


def test_each_entry_says_what_to_do():
    assert [row for row in ROWS if len(row) != 3 or len(row[2]) < 10] == []


@pytest.mark.parametrize("called", ["_bad", "NotAPath"])
def test_what_stands_behind_a_reply_has_its_place(called):
    page = " ".join(PAGE.read_text().split())
    found = [
        text_of(one)
        for call in calls(called)
        for arg in call.args
        for one in ([arg.body, arg.orelse] if isinstance(arg, ast.IfExp) else [arg])
    ]
    assert len(found) > 5
    assert [text for text in found if text not in page] == []


def test_troubleshooting_leads_there():
    assert ":doc:`replies`" in (PAGE.parent / "troubleshooting.rst").read_text()
