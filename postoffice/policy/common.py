"""What policies have in common: their keys in the configuration, and a base class."""

from __future__ import annotations

from postoffice import moved
from postoffice.interfaces import IText, Opinion
from postoffice.model.config_values import DURATION, Key, list_of, one_of
from postoffice.model.envelope import Envelope, Recipient, SessionInfo

#: The services whose mail policies can check.
SERVICES = ("smtp", "submission", "submissions", "lmtp")


def services(*default: str) -> Key:
    """The key for the services whose mail a policy checks."""
    return Key(
        "services",
        list_of(one_of(*SERVICES)),
        default,
        "The services whose mail the policy checks.",
    )


#: The keys of every policy.  A maker can replace one of them, to change its default.
COMMON = (
    services("smtp"),
    Key("timeout", DURATION, 10, "Seconds that the policy has to answer."),
    Key(
        "on_failure",
        one_of("accept", "defer"),
        "accept",
        "What happens if the policy fails or does not answer in time: the mail goes on as if the "
        "policy had no objection (accept), or the client gets a temporary error (defer).",
    ),
)


def is_for_the_postmaster(recipient: Recipient) -> bool:
    """
    Whether mail is for the postmaster (RFC 5321 §4.5.1).

    A sender whose mail is refused must be able to ask why.
    """
    return recipient.address.local.casefold() == "postmaster"


class PolicyBase:
    """A base class for policies: it has no objection to anything."""

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

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


#: Names of the previous version; the next version removes them.
_RENAMED = {"Quiet": "PolicyBase"}


def __getattr__(name: str) -> object:
    return moved.renamed(__name__, name, _RENAMED, globals())
