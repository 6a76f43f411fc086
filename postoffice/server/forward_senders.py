"""The senders of forwards, and the file with the secrets that sign them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cached_property

from postoffice.model.address import Address, NotAnAddress
from postoffice.model.alias import Found
from postoffice.model.envelope import Envelope
from postoffice.model.errors import TemporaryFailure
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.outbound.srs import NotRewritten, SenderRewriting
from postoffice.util.atomic_file import sync_folder
from postoffice.util.maybe_awaitable import later

#: The file in the state folder: a secret on each line, of which the first signs.
SECRETS = "srs.secrets"


class ForwardSenders:
    """
    Rewrites the senders of strangers' mail that we send on, and finds whom a bounce goes to.

    ``path`` is the file with the secrets.  It is read when it is first needed, and made when an
    address is to be signed.  ``look_up`` asks the directories, ``now`` returns the time.  Rewritten
    senders are in ``domain``; "": in that of the address that leads to the recipient.  All
    functions raise TemporaryFailure if the file cannot be read or made.
    """

    def __init__(
        self,
        path: str,
        look_up: Callable[[str], Found | Awaitable[Found]],
        now: Callable[[], datetime],
        domain: str = "",
    ) -> None:
        self._path = path
        self._look_up = look_up
        self._now = now
        self._domain = domain

    async def sender_of(self, message: QueuedMessage, recipient: QueuedRecipient) -> str:
        """
        Return the reverse-path with which a message is sent to a recipient.

        A stranger's is rewritten where an alias or a forward leads to the recipient: servers that
        verify it (SPF) would refuse it from here.  If that gets too long, it is "".
        """
        sender, given = message.sender, recipient.original
        if not (sender and given) or message.login:
            return sender
        try:
            address = Address.parse(sender)
        except NotAnAddress:
            return sender
        if await self._is_ours(address):
            return sender
        self._make()
        domain, now = self._domain or given.rpartition("@")[2], self._now().timestamp()
        return str(self._rewriting.rewritten(address, domain, now) or "")

    async def _is_ours(self, address: Address) -> bool:
        try:
            return (await later(self._look_up(address.normal))).domain is not None
        except TemporaryFailure:
            return False

    def returned_to(self, envelope: Envelope, address: Address) -> Address | None:
        """Return whom mail to a rewritten sender goes to; None if it is none, or no bounce."""
        if envelope.sender is not None:
            return None
        try:
            return self._rewriting.original(address, self._now().timestamp())
        except NotRewritten:
            return None

    @cached_property
    def _rewriting(self) -> SenderRewriting:
        try:
            with open(self._path, "rb") as file:
                lines = file.read().split()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise self._failure(error) from error
        return SenderRewriting(lines or [secrets.token_bytes()])

    def _make(self) -> None:
        """Make the file if it is not there."""
        if os.path.exists(self._path):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        part = f"{self._path}.{secrets.token_hex(4)}"
        try:
            with open(os.open(part, flags, 0o600), "w") as file:
                file.write(f"{secrets.token_urlsafe()}\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, self._path)  # one that another process has made stays
            except FileExistsError:
                pass
            finally:
                os.unlink(part)
            sync_folder(os.path.dirname(self._path))
        except OSError as error:
            raise self._failure(error) from error
        self.__dict__.pop("_rewriting", None)

    def _failure(self, error: OSError) -> TemporaryFailure:
        return TemporaryFailure(
            f"the secrets of SRS cannot be read: {self._path}: {error.strerror}"
        )
