"""Where a message is now, for each recipient, as far as the log tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from postoffice.logs.line import Line, addresses
from postoffice.logs.story import Story
from postoffice.model.log_event import shown

#: What became of a recipient; the sentence for each, with what the log knows of it.
STATES = {
    "maildrop": "in the maildrop",
    "collected": "in the maildrop; it was collected",
    "deleted": "deleted",
    "removed": "removed from the maildrop by the post office",
    "discarded": "discarded by an alias",
    "queued": "in the queue",
    "sent": "sent",
    "bounced": "refused by its server",
    "expired": "given up",
    "removed-from-queue": "removed from the queue by an administrator",
    "refused": "refused here",
}
_OF_QUEUE = {
    "sent": "sent",
    "deferred": "queued",
    "bounced": "bounced",
    "expired": "expired",
    "removed-from-queue": "removed-from-queue",
}


@dataclass(frozen=True)
class Whereabouts:
    """
    What became of one recipient: a state of ``STATES``, and since when (Unix time).

    ``letter`` is what a letter to the sender says (failed, delayed, relayed), if this is about
    that letter.  ``via`` is the server of another domain, ``reply`` what it said, or what the
    client heard here; ``session`` is the session that collected or deleted it.
    """

    recipient: str
    state: str
    time: float
    via: str = ""
    reply: str = ""
    session: str = ""
    letter: str = ""

    @property
    def text(self) -> str:
        """It in a sentence, with values escaped as in the log."""
        who = f"the letter ({shown(self.letter)}) to " if self.letter else ""
        parts = [f"{who}{shown(self.recipient)}: {STATES[self.state]}"]
        if self.via:
            parts.append(f"{'to' if self.state == 'sent' else 'at'} {shown(self.via)}")
        if self.session:
            parts.append(f"by session {shown(self.session)}")
        if self.reply:
            parts.append(f"({shown(self.reply)})")
        return " ".join(parts)


def whereabouts(story: Story) -> list[Whereabouts]:
    """
    Return where a message is: one for each recipient, in the order in which they were accepted.

    A session that took none, or several, has none.
    """
    messages = {one["id"].partition("-")[0] for one in story.lines if "." in one["id"]}
    if not story.is_message and len(messages) != 1:
        return []
    now = _Now()
    for line in story.lines:
        for one in now.after(line):
            now.found[one.letter, one.recipient] = one
    return list(now.found.values())


class _Now:
    """What is known, as the events come."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Whereabouts] = {}
        self._leads: dict[str, list[str]] = {}
        self._letters: dict[str, str] = {}  # what a letter says, by its UIDL
        self._uidls: set[str] = set()

    def after(self, line: Line) -> Iterator[Whereabouts]:
        """Yield the states that an event changes."""
        if line.event in _IN_MAILDROP:
            yield from self._in_maildrop(line)
        elif "." not in line["id"]:
            return
        elif line.event == "recipient-followed":
            for address in addresses(line["recipient"]):
                self._leads.setdefault(address, []).extend(addresses(line["to"]))
        elif line.event in ("message-taken", "message-taken-for"):
            self._uidls.add(line["uidl"])
            yield from self._taken(line)
        elif line.event == "letter-written":
            self._letters[line["uidl"]] = line["outcome"]
            for to in addresses(line["sender"]):
                yield Whereabouts(to, "maildrop", line.time, letter=line["outcome"])
        elif line.event == "refused":
            for to in addresses(line["recipient"] or line["to"]):
                yield Whereabouts(to, "refused", line.time, reply=line["reply"])
        elif line.event == "message-discarded":
            for to in addresses(line["recipient"]):
                yield Whereabouts(to, "discarded", line.time)
        elif line.event in _OF_QUEUE:
            state, letter = _OF_QUEUE[line.event], line["id"].partition("-")[2]
            for to in addresses(line["to"]):
                yield Whereabouts(to, state, line.time, line["via"], line["reply"], letter=letter)

    def _taken(self, line: Line) -> Iterator[Whereabouts]:
        """Each recipient; where an alias or a forward led elsewhere, those instead."""
        to = addresses(line["to"])
        queued = int(line["queued"]) if line["queued"].isdecimal() else 0
        for number, one in enumerate(to):
            waits = number >= len(to) - queued
            for target in self._leads.get(one, [one]):
                yield Whereabouts(target, "queued" if waits else "maildrop", line.time)

    def _in_maildrop(self, line: Line) -> Iterator[Whereabouts]:
        state, account = _IN_MAILDROP[line.event], line["account"] or line["maildrop"]
        for uidl in filter(None, (line["uidl"], *line["uidls"].split(","))):
            if uidl in self._letters:
                letter = self._letters[uidl]
                yield Whereabouts(account, state, line.time, session=line["id"], letter=letter)
            elif uidl in self._uidls:
                yield Whereabouts(self._whose(account), state, line.time, session=line["id"])

    def _whose(self, account: str) -> str:
        """The recipient that an account is; if mail came by another name, the only one left."""
        if ("", account) in self.found:
            return account
        here = [
            one.recipient
            for one in self.found.values()
            if one.state in ("maildrop", "collected") and not one.letter
        ]
        if len(here) == 1:
            return here[0]
        return next((one for one in here if one.lower() == account.lower()), account)


_IN_MAILDROP = {
    "message-deleted": "deleted",
    "messages-collected": "collected",
    "mail-removed": "removed",
}
