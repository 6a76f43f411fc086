"""What an import asks of a store besides: to remove what the old server has no more."""

from __future__ import annotations

from collections.abc import Awaitable, Collection

from zope.interface import Interface


class IImportMirror(Interface):
    """Optional interface of a store: ``maildrop import --remove-gone`` needs it."""

    def remove_gone(name: str, listed: Collection[str], dry: bool) -> Awaitable[int]:
        """
        Remove imported messages that the old server has no more; return how many.

        ``listed`` is as in ``ImportResult``. They can be restored as those that a session has
        deleted. ``dry``: only count them. Raises MaildropLocked while a session holds the
        maildrop, TemporaryFailure.
        """
