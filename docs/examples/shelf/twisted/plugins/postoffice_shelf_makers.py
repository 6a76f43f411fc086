"""The maker of the shelf; the shelf itself is imported when it is made."""

from __future__ import annotations

from twisted.plugin import IPlugin
from zope.interface import implementer

from postoffice.interfaces import IStoreMaker
from postoffice.model.config_values import PATH, Key


@implementer(IPlugin, IStoreMaker)
class ShelfMaker:
    """``kind: shelf``."""

    kind = "shelf"
    keys = (Key("path", PATH, "shelf.db", "The SQLite file of all mail, relative to `state`."),)

    def make(self, options, context):
        from postoffice_shelf import ShelfStore

        return ShelfStore(options["path"], context.executor)


shelf = ShelfMaker()
