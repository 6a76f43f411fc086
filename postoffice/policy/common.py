"""The keys that every policy has in the configuration."""

from __future__ import annotations

from postoffice.interfaces import IText, Opinion
from postoffice.model.config_values import DURATION, Key, list_of, one_of
from postoffice.model.envelope import Envelope, Recipient, SessionInfo

#: Where policies can be asked.
SERVICES = ("smtp", "submission", "submissions", "lmtp")


def services(*default: str) -> Key:
    """Where a policy is asked."""
    return Key(
        "services", list_of(one_of(*SERVICES)), default, "The services at which it is asked."
    )


#: A maker that has a key of the same name gives it another default.
COMMON = (
    services("smtp"),
    Key("timeout", DURATION, 10, "Seconds that it has for an answer."),
    Key(
        "on_failure",
        one_of("accept", "defer"),
        "accept",
        "What happens when it has no answer in time, or fails: the mail goes on as if it had not "
        "been asked (accept), or is told to come later (defer).",
    ),
)


def is_for_the_postmaster(recipient: Recipient) -> bool:
    """Whoever is refused must be able to ask why (RFC 5321 §4.5.1)."""
    return recipient.address.local.casefold() == "postmaster"


class Quiet:
    """A policy that says nothing: those that have something to say begin here."""

    async def start(self) -> None:
        """Nothing need be ready."""

    async def stop(self) -> None:
        """Nothing is held."""

    async def connect(self, session_info: SessionInfo) -> Opinion:
        return None

    async def hello(self, session_info: SessionInfo) -> Opinion:
        return None

    async def sender(self, envelope: Envelope) -> Opinion:
        return None

    async def recipient(self, envelope: Envelope, recipient: Recipient) -> Opinion:
        return None

    async def text(self, envelope: Envelope, text: IText) -> Opinion:
        return None
