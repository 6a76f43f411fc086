"""The space that a batch of messages reserves in the quotas of its maildrops."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress

from postoffice.model.address import Quota
from postoffice.model.errors import PostOfficeError, TemporaryFailure
from postoffice.store.batch import Batch
from postoffice.store.drafts import Draft
from postoffice.store.files import MaildropRef, failure
from postoffice.store.quota import maildirsize
from postoffice.store.quota.enforcement import QuotaEnforcement
from postoffice.store.quota.usage_file import Usage


class Reservations:
    """
    What a batch has reserved, until its messages are linked or have failed.

    Each maildrop that was counted stays locked (shared) from the reservation to
    ``end``, so that no recount counts a message twice or misses it.
    """

    def __init__(self, batch: Batch, enforcement: QuotaEnforcement | None) -> None:
        self._batch = batch
        self._folders = batch.folders
        self._enforcement = enforcement
        self._reserved: list[tuple[Draft, MaildropRef]] = []
        self._locks = ExitStack()  # shared locks of the maildrops in ``_counted``
        self._counted: set[MaildropRef] = set()

    def reserve(self) -> None:
        """Reserve space for each draft in each limited maildrop; a draft over quota fails."""
        wanted: dict[MaildropRef, list[Draft]] = {}
        for draft in self._batch.well():
            for ref in draft.refs:
                wanted.setdefault(ref, []).append(draft)
        for ref in sorted(wanted):  # lock order, by path: no deadlock with other batches
            drafts = wanted[ref]
            try:
                self._reserve_in(ref, drafts)
            except (OSError, PostOfficeError) as error:
                why = failure(ref.path, error) if isinstance(error, OSError) else error
                for draft in drafts:
                    self._batch.miss(draft, ref, why)

    def end(self) -> None:
        """Give back what failed drafts had reserved, and release the locks."""
        for draft, ref in self._reserved:
            if self._batch.failed_in(draft, ref):
                with suppress(OSError):
                    maildirsize.add(self._folders.open(ref), -draft.size, -1)
        self._locks.close()

    def _reserve_in(self, ref: MaildropRef, drafts: Sequence[Draft]) -> None:
        limited = [draft for draft in drafts if ref in draft.quotas]
        if limited and not self._reserve_quickly(ref, limited):
            self._reserve_slowly(ref, limited)
        if len(limited) < len(drafts):
            self._count(ref, [draft for draft in drafts if ref not in draft.quotas])

    def _reserve_quickly(self, ref: MaildropRef, drafts: Sequence[Draft]) -> bool:
        """Reserve all from the open count.  False: nothing reserved, count or make room first."""
        limit = drafts[0].quotas[ref]
        count = self._folders.count(ref)
        more = Usage(sum(draft.size for draft in drafts), len(drafts))
        count.begin()
        try:
            held = count.reserve(limit, more)
        except BaseException:
            count.end()
            raise
        if held is None:
            count.end()
            return False
        self._locks.callback(count.end)
        self._counted.add(ref)
        self._reserved += [(draft, ref) for draft in drafts]
        self._note(ref, drafts[0], held.less(more), held)
        return True

    def _reserve_slowly(self, ref: MaildropRef, drafts: Sequence[Draft]) -> None:
        fd, limit, owner = self._folders.open(ref), drafts[0].quotas[ref], _owner(drafts[0], ref)
        sizes = [draft.size for draft in drafts]
        more = _together(limit, sizes)
        taken = self._take(ref, limit, sizes, all_of_them=True)
        for _ in range(3):
            if taken is not None:
                break
            room, held = maildirsize.has_room(fd, limit, more)
            if not room and limit.over == "make-room" and self._enforcement is not None:
                self._enforcement.make_room(ref.path, limit, held, more, owner)
            taken = self._take(ref, limit, sizes)
        if taken is None:
            raise TemporaryFailure(
                f"{ref.path}: reserving quota failed: others recounted it again and again"
            )
        fits, held = taken
        came = Usage(0, 0)
        for draft, fit in zip(drafts, fits, strict=True):
            if fit:
                self._reserved.append((draft, ref))
                came = Usage(came.octets + draft.size, came.messages + 1)
            else:
                alone = draft.apart or len(draft.refs) == 1
                why = maildirsize.full(ref.path, limit, draft.size, alone=alone)
                self._batch.miss(draft, ref, why)
        self._note(ref, drafts[0], held.less(came), held)

    def _take(
        self, ref: MaildropRef, limit: Quota, sizes: Sequence[int], *, all_of_them: bool = False
    ) -> tuple[list[bool], Usage] | None:
        """Reserve, and hold the shared lock until ``end``.  None: recount first."""
        fd = self._folders.open(ref)
        with ExitStack() as stack:
            stack.enter_context(maildirsize.reserving(fd))
            taken = maildirsize.reserve(fd, limit, sizes, all_of_them=all_of_them)
            if taken is not None:
                self._locks.enter_context(stack.pop_all())
                self._counted.add(ref)
            return taken

    def _count(self, ref: MaildropRef, drafts: Sequence[Draft]) -> None:
        """Count drafts for an account without a quota, if the maildrop has a maildirsize."""
        fd = self._folders.open(ref)
        if maildirsize.is_kept(fd):
            if ref not in self._counted:
                self._locks.enter_context(maildirsize.reserving(fd))
            maildirsize.add(fd, sum(draft.size for draft in drafts), len(drafts))
            self._reserved += [(draft, ref) for draft in drafts]

    def _note(self, ref: MaildropRef, draft: Draft, before: Usage, held: Usage) -> None:
        """Collect a notice for the owner if the maildrop has become fuller than a level."""
        if self._enforcement is not None:
            with suppress(OSError):  # the owner gets no notice, but has the mail
                limit, owner = draft.quotas[ref], _owner(draft, ref)
                self._enforcement.filled(ref.path, limit, before, held, owner)


def _owner(draft: Draft, ref: MaildropRef) -> str:
    return draft.owners.get(ref, "")


def _together(limit: Quota, sizes: Sequence[int]) -> Usage:
    """How much of these messages an empty maildrop could hold."""
    octets = messages = 0
    for size in sizes:
        if limit.holds(octets + size, messages + 1):
            octets, messages = octets + size, messages + 1
    return Usage(octets, messages)
