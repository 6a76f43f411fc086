"""Plugins can use the names of the version before."""

from __future__ import annotations

import importlib
import sys

import pytest

from postoffice import interfaces, testing
from postoffice.moved import MOVED, RENAMED
from postoffice.policy import common


@pytest.fixture(autouse=True)
def nobody_has_asked(monkeypatch):
    """What was imported by an old name is found without a warning from then on."""
    for old in MOVED:
        monkeypatch.delitem(sys.modules, f"postoffice.{old}", raising=False)


@pytest.mark.parametrize("old", MOVED)
def test_a_module_is_found_by_its_old_name(old):
    with pytest.warns(DeprecationWarning, match=r"is now postoffice\."):
        found = importlib.import_module(f"postoffice.{old}")
    new = importlib.import_module(f"postoffice.{MOVED[old]}")
    for name, value in vars(new).items():
        assert name.startswith("__") or getattr(found, name) is value


@pytest.mark.parametrize("module", RENAMED)
def test_a_class_has_its_old_name_there(module):
    (old,) = (old for old, new in MOVED.items() if new == module)
    with pytest.warns(DeprecationWarning, match="is now"):
        found = importlib.import_module(f"postoffice.{old}")
    new = importlib.import_module(f"postoffice.{module}")
    for before, now in RENAMED[module].items():
        assert getattr(found, before) is getattr(new, now)


@pytest.mark.parametrize(
    "module", [interfaces, testing, common], ids=lambda module: module.__name__
)
def test_a_name_that_has_changed_can_be_used(module):
    for old, new in module._RENAMED.items():
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            assert getattr(module, old) is getattr(module, new)


def test_what_was_never_there_is_not_there():
    with pytest.raises(AttributeError):
        _ = interfaces.Nothing
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("postoffice.nothing")


def test_a_maker_may_use_the_old_names_of_its_context():
    context = interfaces.PluginContext(None, "executor", "/state", "mail.example.net")
    assert (context.workers, context.apart) == ("executor", None)
