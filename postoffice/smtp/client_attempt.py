"""An attempt to send a transaction: its commands, and a reply for each recipient."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from postoffice.model.hop import CHECK, PeerReply, Transaction
from postoffice.smtp.client_commands import Offers, mail, objections, rcpt, uses_utf8
from postoffice.smtp.client_states import DATA, MAIL, RCPT


class Attempt:
    """
    The commands to send, and for each recipient a reply so far.

    ``commands`` are those that were not sent yet, with the state that waits for their reply; none
    if no recipient can be sent to.  ``accepted`` are indexes of recipients that the server has
    accepted.  ``postponed`` are those for another transaction.
    """

    def __init__(self, transaction: Transaction, offers: Offers, *, verified: bool) -> None:
        self.replies = objections(transaction, offers, verified=verified)
        self.accepted: list[int] = []
        self.postponed: set[int] = set()
        self.mail_answered = False
        self._postpone_over(offers.recipients)
        named = [n for n, answer in enumerate(self.replies) if answer is None]
        self._named = deque(named)  # recipients whose RCPT was not answered yet
        self._ends: deque[Sequence[int]] = deque()  # who gets the next reply to the text
        self.commands: deque[tuple[str, bytes]] = deque()
        if named:
            utf8 = uses_utf8(transaction, offers)
            self.commands.append((MAIL, mail(transaction, offers, utf8=utf8)))
            for n in named:
                self.commands.append((RCPT, rcpt(transaction.recipients[n], offers, utf8=utf8)))
            self.commands.append((DATA, b"DATA\r\n"))

    def _postpone_over(self, limit: int) -> None:
        """Leave recipients over the server's limit (RFC 9422) to another transaction."""
        free = [n for n, answer in enumerate(self.replies) if answer is None]
        for n in free[limit:] if limit else ():
            self.postponed.add(n)
            self.replies[n] = PeerReply(452, "4.5.3", "More recipients than RCPTMAX", CHECK)

    @property
    def open(self) -> bool:
        """Whether a command is left; DATA only counts if a recipient was accepted."""
        commands = self.commands
        return bool(commands) and not (commands[0][0] == DATA and not self.accepted)

    def take_mail(self, answer: PeerReply) -> None:
        """The reply to MAIL; a refusal is for all recipients."""
        self.mail_answered = True
        if not answer.sent:
            self.fill(answer)
            self.commands.clear()

    def take_rcpt(self, answer: PeerReply) -> None:
        """The reply to the next RCPT."""
        n = self._named.popleft()
        if self.replies[n] is not None:  # MAIL was refused
            return
        if answer.sent:
            self.accepted.append(n)
            return
        self.replies[n] = answer
        if self.accepted and _too_many(answer):
            self.postponed.add(n)

    def begin_end(self, *, lmtp: bool) -> Sequence[Sequence[int]]:
        """The text is sent; return the recipients of each reply to it (RFC 2033 §4.2)."""
        self._ends.extend([[n] for n in self.accepted] if lmtp else [self.accepted])
        return self._ends

    def take_end(self, answer: PeerReply) -> None:
        """A reply to the text."""
        for n in self._ends.popleft():
            self.replies[n] = answer

    def fill(self, answer: PeerReply) -> None:
        """All recipients without a reply get this one."""
        for n, known in enumerate(self.replies):
            if known is None:
                self.replies[n] = answer


def _too_many(answer: PeerReply) -> bool:
    """Whether a refusal means only that this is one recipient too many (§4.5.3.1.10)."""
    return (answer.code, answer.status) in (
        (452, "4.5.3"),
        (452, "4.5.5"),
        (452, ""),
        (552, "5.5.3"),
        (552, ""),
    )
