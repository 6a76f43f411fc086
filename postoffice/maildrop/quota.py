"""What a maildrop may hold, and holds."""

from __future__ import annotations

from postoffice.address import Quota
from postoffice.errors import MaildropFull, MaildropFullNow, PostOfficeError

#: The file in a maildrop that counts what is in it (Maildir++).
FILE = "maildirsize"


def full(maildrop: str, quota: Quota, *, alone: bool = True) -> PostOfficeError:
    """
    What to say of a message that does not fit.

    Where it has other recipients (not ``alone``) it is later for all: by the
    time that the sender names them again, each of them has an answer of his own.
    """
    if quota.over == "reject" and alone:
        return MaildropFull(f"{maildrop}: over its quota")
    return MaildropFullNow(f"{maildrop}: over its quota")
