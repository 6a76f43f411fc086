"""The texts of quota notices, the messages to the owners of maildrops about their quotas."""

from __future__ import annotations

from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from string import Template

from postoffice.model.address import Address
from postoffice.store.quota.enforcement import Notice

#: The text of a notice: the subject in the first line, an empty line, the body.
FILLING = """\
Your mailbox is ${percent} % full

Your mailbox ${address} holds ${used}, which is ${percent} %
of the ${limit} that it may hold.

${when_full}
Please collect your mail, and remove what you no longer need.
"""
#: What happens when the quota is reached, by ``Quota.over``.
WHEN_FULL = {
    "reject": "When it is full, new mail for you will be turned away.",
    "defer": """\
When it is full, new mail for you has to wait with its senders, who try
again for some days and then hear that it could not be delivered.""",
    "make-room": """\
When it is full, the oldest messages in it will be removed to make room
for new ones, those first that were collected.""",
}
MADE_ROOM = """\
Old messages were removed from your mailbox

Your mailbox ${address} was full: it may hold ${limit}.
To make room for new mail, the oldest messages in it were removed: ${removed}.

The administrators of this post office may be able to bring them back for
a few days. Please collect your mail more often, or remove what you no
longer need.
"""


def letter(
    notice: Notice, address: Address, hostname: str, unique: str, when: datetime, text: str = ""
) -> bytes:
    """
    Make the message of a notice; ``text`` replaces our text about a mailbox that fills up.

    Lines end in CRLF.  Text that is not ASCII is encoded for programs without UTF-8,
    except for an address that needs UTF-8 (RFC 6532).
    """
    template = MADE_ROOM if notice.removed else text or FILLING
    words = Template(template).safe_substitute(
        address=str(address),
        percent=notice.level,
        used=_as_text(notice.held.octets, notice.held.messages),
        limit=_as_text(notice.quota.octets or 0, notice.quota.messages or 0),
        removed=notice.removed,
        when_full=WHEN_FULL[notice.quota.over or "reject"],
    )
    subject, _, body = words.lstrip().partition("\n")
    message = EmailMessage(SMTP.clone(cte_type="7bit", utf8=not address.ascii))
    message["Date"] = format_datetime(when)
    message["From"] = f"Post office <postmaster@{address.domain}>"
    message["To"] = str(address)
    message["Subject"] = subject.removeprefix("Subject:").strip()
    message["Message-ID"] = f"<{unique}@{hostname}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5
    message.set_content(body.lstrip("\n"))
    return bytes(message)


def _as_text(octets: int, messages: int) -> str:
    """Format a usage as ``12.3 MiB, 40 messages``; a number that is 0 is omitted."""
    words = []
    if octets:
        size, unit = float(octets), "octets"
        for larger in ("KiB", "MiB", "GiB", "TiB"):
            if size < 1024:
                break
            size, unit = size / 1024, larger
        words.append(f"{size:.4g} {unit}")
    if messages:
        words.append(f"{messages} messages")
    return ", ".join(words) or "nothing"
