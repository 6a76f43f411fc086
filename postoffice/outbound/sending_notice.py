"""Notices to the owner of an account and to the postmaster that sending was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from string import Template

from postoffice.model.address import Address

#: Kinds: the account has reached a limit; the account is held, as other servers refuse its mail.
OVER, HELD = "over", "held"

TEXTS = {
    OVER: """\
You have reached a limit for sending mail

${account} has reached the limit of ${limit}
in other domains, with a message to ${recipients} recipients${device}.

${outcome}
""",
    HELD: """\
Your mail to other domains is held

Mail from ${account} looks like spam to other servers: ${why}.

New mail of this account to other domains is accepted, and held until an
administrator has looked at it.
""",
}
#: What happens to a message that is over a limit.
OUTCOMES = {
    "held": """\
What is over the limit is accepted, and held until an administrator has
looked at it.""",
    "refused": """\
What is over the limit is refused; the mail program says when you can
send it again.""",
}
ADVICE = """
If you have not sent this mail, somebody else knows your password: set a
new one now, and write to ${postmaster}.

For the postmaster: postoffice account show ${account}
"""
LOGIN = """\
The smarthost ${smarthost} refuses our login

Mail that is sent through ${smarthost} waits, because the server says:

    ${reply}

Nothing is lost or returned so far.  Mend login and password_file of
${smarthost} in the configuration, then:

    postoffice reload
"""


def notice(
    account: Address,
    postmaster: Address,
    kind: str,
    facts: Mapping[str, str],
    unique: str,
    when: datetime,
) -> bytes:
    """
    Make the notice, to both; ``unique`` is for its Message-ID.

    ``facts`` are limit, recipients, device and outcome (OVER), or why (HELD).
    """
    words = dict(facts, account=str(account), postmaster=str(postmaster))
    words["device"] = f" sent by the device {device!r}" if (device := facts.get("device")) else ""
    words["outcome"] = OUTCOMES.get(facts.get("outcome", ""), "")
    text = Template(TEXTS[kind] + ADVICE).substitute(words)
    return _message(text, account, postmaster, unique, when)


def login_notice(
    smarthost: str, reply: str, postmaster: Address, unique: str, when: datetime
) -> bytes:
    """Make the notice to the postmaster that a smarthost refuses our login; it said ``reply``."""
    text = Template(LOGIN).substitute(smarthost=smarthost, reply=reply)
    return _message(text, postmaster, postmaster, unique, when)


def _message(text: str, to: Address, postmaster: Address, unique: str, when: datetime) -> bytes:
    """A message whose subject is the first line; the postmaster gets it, too."""
    subject, _, body = text.partition("\n")
    utf8 = not (to.ascii and postmaster.ascii)
    message = EmailMessage(SMTP.clone(cte_type="7bit", utf8=utf8))
    message["Date"] = format_datetime(when)
    message["From"] = f"Post office <{postmaster}>"
    message["To"] = str(to)
    if to.normal != postmaster.normal:
        message["Cc"] = str(postmaster)
    message["Subject"] = subject
    message["Message-ID"] = f"<{unique}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5
    message.set_content(body.lstrip("\n"))
    return bytes(message)
