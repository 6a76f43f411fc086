"""The keys that every policy has in the configuration."""

from __future__ import annotations

from postoffice.settings import DURATION, Key, list_of, one_of

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
