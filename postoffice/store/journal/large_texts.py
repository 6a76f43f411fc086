"""The large texts of the journal: files of their own, until a checkpoint covers them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from postoffice.store.files import Report


class LargeTexts:
    """
    The large texts in ``folder`` that a recovery may need, by key, with their generations.

    ``report`` is called with a log level and a text.
    """

    def __init__(self, folder: str, report: Report) -> None:
        self.folder = folder
        self._report = report
        self._generations: dict[str, int] = {}

    def add(self, generations: Mapping[str, int]) -> None:
        """These are needed until a checkpoint covers their generations."""
        self._generations.update(generations)

    def take(self, checkpointed: int) -> list[str]:
        """Forget those that a checkpoint covers, and return their keys."""
        done = [key for key, one in self._generations.items() if one <= checkpointed]
        for key in done:
            del self._generations[key]
        return done

    def unlink(self, keys: Iterable[str]) -> None:
        """Remove files; one that cannot be removed (its message is immutable) costs only space."""
        for key in keys:
            path = f"{self.folder}/{key}"
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                self._report(
                    "error", f"removing {path} failed: {error}; the next start tries again"
                )

    def sweep(self, checkpointed: int) -> None:
        """Remove all that no recovery needs.  The caller is alone, and all is applied."""
        self.unlink(self.unneeded(checkpointed))

    def unneeded(self, checkpointed: int) -> set[str]:
        """The keys of all that no recovery needs.  The caller is alone, and all is applied."""
        self.take(checkpointed)
        return set(os.listdir(self.folder)) - self._generations.keys()
