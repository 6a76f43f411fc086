"""Finds plugins, and explains why a plugin is missing.  No other module looks for plugins."""

from __future__ import annotations

import importlib

from twisted.plugin import getPlugins
from twisted.python.modules import getModule

from postoffice.config.chosen_plugin import reason
from postoffice.interfaces import IDirectoryMaker, IMaker, IPolicyMaker, IStoreMaker

#: What each kind of maker makes, in words.
WHAT = {IStoreMaker: "store", IDirectoryMaker: "directory of accounts", IPolicyMaker: "policy"}


#: The makers that were found before root changed to another user.
_remembered: dict[type[IMaker], list[IMaker]] = {}


def remember() -> None:
    """
    Find no other plugins from now on.

    The user that root changes to may not be able to read them, and a reload needs them.
    """
    _remembered.update({interface: makers(interface) for interface in WHAT})


def makers(interface: type[IMaker]) -> list[IMaker]:
    """All makers of an interface that can be imported."""
    if interface in _remembered:
        return _remembered[interface]
    found: list[IMaker] = []
    for maker in getPlugins(interface):
        if hasattr(maker, "kind") and all(maker is not other for other in found):
            found.append(maker)
    return found


def find_maker(interface: type[IMaker], kind: str) -> IMaker:
    """
    Return the maker of that kind.

    Raises LookupError that lists the known kinds and the broken plugins; ``getPlugins``
    only logs those.
    """
    known = makers(interface)
    fitting = [maker for maker in known if maker.kind == kind]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        where = ", ".join(type(maker).__module__ for maker in fitting)
        raise LookupError(f"kind {kind!r} is claimed by several plugins: {where}")
    kinds = ", ".join(sorted(maker.kind for maker in known))
    what = WHAT.get(interface, "plugin")
    raise LookupError(f"there is no {what} of kind {kind!r}, only: {kinds}{broken()}")


def broken() -> str:
    """Return the broken plugins, as the end of an error text."""
    return "".join(f"; the plugin {name} is broken: {why}" for name, why in _broken_plugins())


def _broken_plugins() -> list[tuple[str, str]]:
    """Return the plugin modules that cannot be imported, and the reasons."""
    broken = []
    package = getModule("twisted.plugins")  # type: ignore[no-untyped-call]
    for module in package.iterModules():
        try:
            importlib.import_module(module.name)
        except (Exception, SystemExit) as error:
            broken.append((module.name, reason(error)))
    return broken
