"""Limits the share of the queue that one account may fill."""

from __future__ import annotations

from collections.abc import Iterable

from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.model.reply import SHARE_FULL, Reply


class QueueShares:
    """
    Counts the messages and octets that each account has in the queue.

    These are messages of users who have logged in, and those that accounts forward; those that were
    forwarded before the daemon started are not counted.
    """

    def __init__(self) -> None:
        self._messages = self._octets = 0
        self._used: dict[str, tuple[int, int]] = {}
        self._forwarded: dict[str, frozenset[str]] = {}  # by the names of messages

    def limit(self, messages: int, octets: int, percent: int) -> None:
        """Let each account have a share of so many messages and octets; 0: any number."""
        self._messages = messages and max(messages * percent // 100, 1)
        self._octets = octets and max(octets * percent // 100, 1)

    def load(self, used: Iterable[tuple[str, int, int]]) -> None:
        """Begin with what accounts have in the queue: messages and octets."""
        self._used = {account: (messages, octets) for account, messages, octets in used if account}
        self._forwarded.clear()

    def came(self, name: str, message: QueuedMessage) -> None:
        """A message has come into the queue."""
        if not message.login:
            forwarders = frozenset(one.forwarder for one in message.recipients if one.forwarder)
            if forwarders:
                self._forwarded[name] = forwarders
        self._count(name, message, 1)

    def left(self, name: str, message: QueuedMessage) -> None:
        """A message has left the queue."""
        self._count(name, message, -1)
        self._forwarded.pop(name, None)

    def _count(self, name: str, message: QueuedMessage, step: int) -> None:
        accounts = [message.login] if message.login else self._forwarded.get(name, ())
        for account in accounts:
            messages, octets = self._used.get(account, (0, 0))
            messages, octets = messages + step, octets + step * message.octets
            if messages > 0:
                self._used[account] = messages, octets
            else:
                self._used.pop(account, None)

    def refusal(self, login: str, recipients: Iterable[QueuedRecipient]) -> Reply | None:
        """Return why mail of a user ("": a stranger) for these is not taken now, or None."""
        accounts = {login or one.forwarder for one in recipients}
        return SHARE_FULL if any(map(self._is_full, accounts - {""})) else None

    def _is_full(self, account: str) -> bool:
        messages, octets = self._used.get(account, (0, 0))
        return 0 < self._messages <= messages or 0 < self._octets <= octets
