"""The state of a batch of messages while it is committed: what is linked, what has failed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from postoffice.store.drafts import Draft
from postoffice.store.files import MaildropRef, failure, identity
from postoffice.store.open_folders import OpenFolders, was_taken_away


class Batch:
    """
    Drafts that are committed together, each with its own outcome.

    ``wrong`` has the error of each draft that failed.  ``linked`` has the links
    that were made.  ``suspect`` are maildrops whose folders do not stay open,
    because they may have been taken away.
    """

    def __init__(self, drafts: Sequence[Draft], folders: OpenFolders) -> None:
        self.drafts = drafts
        self.folders = folders
        self.wrong: dict[Draft, Exception] = {}
        self.linked: list[tuple[Draft, MaildropRef]] = []
        self.suspect: set[MaildropRef] = set()

    def outcomes(self) -> list[Exception | None]:
        """For each draft, its error or None."""
        return [self.wrong.get(draft) for draft in self.drafts]

    def well(self) -> Sequence[Draft]:
        """The drafts that have not failed so far."""
        if not self.wrong:
            return self.drafts
        return [draft for draft in self.drafts if draft not in self.wrong]

    def each(self, step: Callable[[Draft], None]) -> None:
        """Take one step with each draft that has not failed; an error fails only that draft."""
        for draft in self.well():
            try:
                step(draft)
            except OSError as error:
                self.wrong[draft] = failure(draft.path, error)
                self.suspect.update(draft.refs)
            except Exception as error:  # a bug costs one message, not the batch
                self.wrong[draft] = error

    def miss(self, draft: Draft, ref: MaildropRef, why: Exception) -> None:
        """A draft cannot get into one of its maildrops: it fails, unless it is ``apart``."""
        if draft.apart:
            draft.missed[ref] = why
        else:
            self.wrong.setdefault(draft, why)

    def failed_in(self, draft: Draft, ref: MaildropRef) -> bool:
        """Whether a draft failed, or failed in this maildrop."""
        return draft in self.wrong or ref in draft.missed

    def check(
        self, refs: Iterable[MaildropRef], step: Callable[[MaildropRef], None]
    ) -> dict[MaildropRef, Exception]:
        """Take one step with each maildrop; return the errors, and do not keep those folders."""
        gone: dict[MaildropRef, Exception] = {}
        for ref in refs:
            try:
                step(ref)
            except OSError as error:
                gone[ref] = failure(ref.path, error)
        self.suspect.update(gone)
        return gone

    def undo(self) -> bool:
        """Unlink failed drafts where they were linked.  False if one could not be unlinked."""
        gone = True
        for draft, ref in self.linked:
            if self.failed_in(draft, ref):
                try:
                    os.unlink(f"new/{draft.final_name}", dir_fd=self.folders.open(ref))
                except FileNotFoundError:
                    pass
                except OSError:
                    gone = False
        return gone


def check_place(ref: MaildropRef) -> None:
    """Check that a maildrop was not moved away.  Raises OSError."""
    if identity(os.stat(ref.path)) != ref.identity:
        raise was_taken_away(ref)
