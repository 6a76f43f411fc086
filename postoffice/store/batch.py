"""The state of a batch of messages while it is committed: what is linked, what has failed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from postoffice.store.drafts import Draft, QueueRemoval
from postoffice.store.files import MaildropRef, failure, identity
from postoffice.store.open_folders import OpenFolders, was_taken_away


class Batch:
    """
    Drafts that are committed together, each with its own outcome.

    ``drafts`` has those, and the drafts beside them.  ``wrong`` has the error of each draft that
    failed by itself.  ``linked`` has the links that were made.  ``suspect`` are maildrops whose
    folders do not stay open, because they may have been taken away.  ``pledged`` drafts cannot
    fail any more, because the journal has a removal that is committed with them: if one cannot
    be linked, the batch is ``unfinished``, and a checkpoint applies it again.  ``others`` are
    removals from the queue that are committed with the batch, and have nothing to do with it.
    """

    def __init__(
        self, drafts: Sequence[Draft], folders: OpenFolders, others: Sequence[QueueRemoval] = ()
    ) -> None:
        self._wanted = drafts
        self.others = others
        self._partners: dict[Draft, Sequence[Draft]] = {}
        self.drafts = drafts
        if any(draft.beside for draft in drafts):
            self.drafts = [*drafts, *(one for draft in drafts for one in draft.beside)]
            self._pair(drafts)
        self.pledged: set[Draft] = set()
        self.unfinished = False
        self.folders = folders
        self.wrong: dict[Draft, Exception] = {}
        self.linked: list[tuple[Draft, MaildropRef]] = []
        self.suspect: set[MaildropRef] = set()

    def _pair(self, drafts: Sequence[Draft]) -> None:
        """Find, for each draft, those whose failure is its own too."""
        for draft in drafts:
            if draft.beside:
                group = [draft, *draft.beside]
                for one in draft.beside:
                    self._partners[one] = [draft] if draft.apart else group
                if not draft.apart:
                    self._partners[draft] = group

    def outcomes(self) -> list[Exception | None]:
        """For each draft that was wanted, its error or None."""
        for draft in self._wanted:
            if draft.apart and self.error(draft) is None:
                for one in draft.beside:
                    if (why := self.error(one)) is not None:
                        draft.missed.update(dict.fromkeys(one.refs, why))
        return [self.error(draft) for draft in self._wanted]

    def error(self, draft: Draft) -> Exception | None:
        """Why a draft failed, by itself or because another one did; None if it did not."""
        if not self.wrong:
            return None
        those = (draft, *self._partners.get(draft, ()))
        return next((self.wrong[one] for one in those if one in self.wrong), None)

    def well(self, among: Sequence[Draft] | None = None) -> Sequence[Draft]:
        """The drafts that have not failed so far."""
        drafts = self.drafts if among is None else among
        if not self.wrong:
            return drafts
        return [draft for draft in drafts if self.error(draft) is None]

    def turns(self) -> list[Sequence[Draft]]:
        """The drafts by their turns: most batches have one turn."""
        if not self._partners:
            return [self.drafts]
        turns: dict[int, list[Draft]] = {}
        for draft in self.drafts:
            turns.setdefault(draft.turn, []).append(draft)
        return [turns[turn] for turn in sorted(turns)]

    def removing(self) -> Sequence[Draft]:
        """The drafts with a removal."""
        return [draft for draft in self._wanted if draft.removal is not None]

    def remove_others(self, step: Callable[[QueueRemoval], None]) -> None:
        """Take a step with each of the other removals that is committed."""
        for removal in self.others:
            if removal.committed:
                try:
                    step(removal)
                except OSError:
                    self.unfinished = True

    def each(self, step: Callable[[Draft], None], among: Sequence[Draft] | None = None) -> None:
        """Take one step with each draft that has not failed; an error fails only that draft."""
        for draft in self.well(among):
            try:
                step(draft)
            except OSError as error:
                self._fail(draft, failure(draft.path, error))
                self.suspect.update(draft.refs)
            except Exception as error:  # a bug costs one message, not the batch
                self._fail(draft, error)

    def _fail(self, draft: Draft, why: Exception) -> None:
        if draft in self.pledged:
            self.unfinished = True
        else:
            self.wrong.setdefault(draft, why)

    def miss(self, draft: Draft, ref: MaildropRef, why: Exception) -> None:
        """A draft cannot get into one of its maildrops: it fails, unless it is ``apart``."""
        if draft.apart:
            draft.missed[ref] = why
        else:
            self._fail(draft, why)

    def failed_in(self, draft: Draft, ref: MaildropRef) -> bool:
        """Whether a draft failed, or failed in this maildrop."""
        return self.error(draft) is not None or ref in draft.missed

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
