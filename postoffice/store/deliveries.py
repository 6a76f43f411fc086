"""Deliveries: how a message begins its way into the maildrops of a store, and its queue."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.interfaces import Executor
from postoffice.model.envelope import Envelope
from postoffice.model.errors import TemporaryFailure
from postoffice.store import names
from postoffice.store.batcher import Batcher
from postoffice.store.delivery import MaildirDelivery, MaildropCache
from postoffice.store.drafts import Draft
from postoffice.store.files import MaildropRef
from postoffice.store.mail_queue import MailQueue
from postoffice.store.quota.admission import FreeSpace
from postoffice.store.receiving_limit import ReceivingLimit


class Deliveries:
    """
    Begins deliveries into the store at ``path``.

    ``large`` is the folder for texts that are written as they arrive (``Draft``).
    """

    def __init__(
        self,
        path: str,
        executor: Executor,
        hostname: str,
        maildrops: MaildropCache,
        queue: MailQueue,
        batcher: Batcher,
        large: str,
        incoming: ReceivingLimit,
        floor: FreeSpace,
    ) -> None:
        self._path = path
        self._executor = executor
        self._hostname = hostname
        self._maildrops = maildrops
        self._queue = queue
        self._batcher = batcher
        self._large = large
        self._incoming = incoming
        self._floor = floor

    async def begin(self, envelope: Envelope) -> MaildirDelivery:
        """Begin one (``IDestination``)."""
        await self._floor.check()
        if envelope.queued:
            self._queue.admit(envelope)
        folders = [
            f"{self._path}/{names.folder_of(one.account.maildrop)}" for one in envelope.recipients
        ]
        unique = list(dict.fromkeys(folders))
        refs = await self._maildrops.find(unique)
        there = [ref for ref in refs if isinstance(ref, MaildropRef)]
        if refs and not there:  # where only some are missing, commit() raises for them
            raise next(ref for ref in refs if isinstance(ref, TemporaryFailure))
        found = dict(zip(unique, refs, strict=True))
        wanted = [found[one] for one in folders]
        draft = self._draft(envelope, wanted, there)
        if envelope.queued:
            place = await self._queue.place()
            wanted.append(place)
            self._add_place(draft, place)
        return MaildirDelivery(
            self._executor,
            self._maildrops,
            self._batcher,
            draft,
            wanted,
            self._incoming.text(envelope.client),
            self._floor,
            envelope,
        )

    def _draft(
        self,
        envelope: Envelope,
        wanted: Sequence[MaildropRef | TemporaryFailure],
        there: list[MaildropRef],
    ) -> Draft:
        """Make the draft for the maildrops ``there``; ``wanted`` has one for each recipient."""
        limited = {
            ref: one.account
            for ref, one in zip(wanted, envelope.recipients, strict=True)
            if one.account.quota.limited and isinstance(ref, MaildropRef)
        }
        return Draft(
            there,
            names.new_name(self._hostname),
            self._large,
            {ref: account.quota for ref, account in limited.items()},
            {ref: account.address for ref, account in limited.items()},
        )

    def _add_place(self, draft: Draft, place: MaildropRef) -> None:
        """Add the queue's place: in a draft of its own beside one for maildrops."""
        if draft.refs:
            name = names.new_name(self._hostname)
            draft.beside.append(Draft([place], name, self._large, original=draft, turn=-1))
        else:
            draft.refs.append(place)
