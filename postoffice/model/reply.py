"""SMTP replies with their enhanced status codes (RFC 5321 §4.2, RFC 3463), by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from postoffice.model.cached_property import cached_property

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True)
class Reply:
    """
    One reply: a code of three digits, an enhanced status code or none, and its text.

    ``text`` may have several lines.  Characters that are not printable ASCII are
    replaced on the wire, so that a client's input cannot break the reply's lines.
    """

    code: int
    status: str
    text: str

    @cached_property
    def wire(self) -> bytes:
        if self.text.isascii() and self.text.isprintable():  # one line, as most are
            status = f"{self.status} " if self.status else ""
            return f"{self.code} {status}{self.text}\r\n".encode("ascii")
        status = f"{self.status} " if self.status else ""
        *lines, last = [status + _UNPRINTABLE.sub("?", line) for line in self.text.split("\n")]
        whole = [f"{self.code}-{line}\r\n" for line in lines] + [f"{self.code} {last}\r\n"]
        return "".join(whole).encode("ascii")

    @property
    def log_text(self) -> str:
        """The reply as one line, for the log."""
        return " ".join(f"{self.code} {self.status} {self.text}".split())

    @property
    def positive(self) -> bool:
        """Whether the reply is 2yz or 3yz."""
        return self.code < 400

    @property
    def permanent(self) -> bool:
        """Whether the reply is 5yz."""
        return self.code >= 500


OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")
BYE = Reply(221, "2.0.0", "Goodbye")
GO_AHEAD = Reply(354, "", "Send the message, end with a line that has only a dot")
CHUNK_TAKEN = Reply(250, "2.0.0", "Chunk taken")
CANNOT_VERIFY = Reply(252, "2.5.0", "Cannot verify; send some mail and see")

TRY_LATER = Reply(451, "4.3.0", "A fault of ours; please try again later")
NO_SPACE = Reply(452, "4.3.1", "No space left; please try again later")
SHARE_FULL = Reply(
    452, "4.3.1", "Too much mail of this account waits to be sent; please try again later"
)
MAILBOX_FULL = Reply(552, "5.2.2", "The mailbox is full")
MAILBOX_FULL_NOW = Reply(452, "4.2.2", "The mailbox is full; please try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; send the rest separately")
TIMED_OUT = Reply(421, "4.4.2", "Timed out: nothing received for too long; closing the connection")
SHUTTING_DOWN = Reply(421, "4.3.2", "The post office is closing; please try again later")
STARTING = Reply(421, "4.3.2", "The post office is starting; please try again later")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections; please try again later")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors; closing the connection")

POLICY_LATER = Reply(451, "4.7.1", "This mail cannot be checked now; please try again later")
LOGGED_IN = Reply(235, "2.7.0", "Welcome")
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
NO_TLS_NOW = Reply(454, "4.7.0", "TLS is not available at the moment; please try again later")
LOGIN_LATER = Reply(454, "4.7.0", "Your login cannot be checked at the moment; try again later")
TOO_MANY_TRIES = Reply(454, "4.7.0", "Too many wrong passwords lately; please try again later")
TOO_MANY_LOGINS = Reply(421, "4.7.0", "Too many failed logins; closing the connection")
TOO_MANY_COMMANDS = Reply(421, "4.7.0", "Too many commands without mail; closing the connection")
TOO_MANY_UNKNOWN = Reply(421, "4.7.1", "Too many unknown recipients; please try again later")

LOGIN_CANCELLED = Reply(501, "5.7.0", "Login cancelled")
BAD_LOGIN = Reply(501, "5.5.2", "Invalid answer for this mechanism")
BAD_BASE64 = Reply(501, "5.5.2", "That is not base64")
LOGIN_LINE_TOO_LONG = Reply(500, "5.5.6", "A line of the login is too long")
NO_MECHANISM = Reply(501, "5.5.4", "AUTH needs the name of a mechanism")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Mechanism not offered here")
LOGIN_REFUSED = Reply(535, "5.7.8", "Login refused: unknown user or wrong password")
ACCOUNT_DISABLED = Reply(525, "5.7.13", "This account is disabled; ask your postmaster")
LOGIN_FIRST = Reply(530, "5.7.0", "Log in first")
TLS_FIRST = Reply(530, "5.7.0", "Say STARTTLS first")
ENCRYPTION_FIRST = Reply(538, "5.7.11", "Encryption is needed for that; say STARTTLS first")
NOT_YOUR_ADDRESS = Reply(553, "5.7.1", "That address does not lead to your account")
MAY_NOT_SEND = Reply(550, "5.7.1", "This account may not send mail; ask your postmaster")
FOREIGN_FROM = Reply(550, "5.7.1", "From has an address that does not lead to your account")
SPOKE_TOO_EARLY = Reply(554, "5.5.1", "You did not wait for the greeting; closing the connection")
INJECTED = Reply(554, "5.5.1", "Octets after STARTTLS; closing the connection")
NOT_TRUSTED = Reply(550, "5.7.0", "Not from you")

NO_NAME = Reply(501, "5.5.4", "VRFY needs a name")
UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognized")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
BARE_LINE_END = Reply(500, "5.5.2", "Lines must end with CR LF and contain neither elsewhere")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
SAY_HELLO_FIRST = Reply(503, "5.5.1", "Say EHLO or HELO first")
SAY_EHLO_FIRST = Reply(503, "5.5.1", "Say EHLO first")
SAY_LHLO_FIRST = Reply(503, "5.5.1", "Say LHLO first")
LMTP_SAYS_LHLO = Reply(500, "5.5.1", "This is LMTP: say LHLO")
SMTP_SAYS_EHLO = Reply(500, "5.5.1", "This is SMTP: say EHLO")
NO_LOGINS_HERE = Reply(502, "5.5.1", "No logins on this port: use submission, port 465 or 587")
NO_TLS_HERE = Reply(502, "5.5.1", "STARTTLS is not available here")
TLS_IS_ON = Reply(502, "5.5.1", "TLS has begun already")
LOGGED_IN_ALREADY = Reply(503, "5.5.1", "You have logged in already")
IN_A_MESSAGE = Reply(503, "5.5.1", "A message has begun with MAIL; end it, or say RSET first")
IN_CHUNKS = Reply(503, "5.5.1", "The text has begun with BDAT; end it with BDAT, or say RSET")
NEED_MAIL = Reply(503, "5.5.1", "Say MAIL first")
OTHER_PROTOCOL = Reply(554, "5.5.1", "This is SMTP, and nothing else; closing the connection")
NEED_RECIPIENT = Reply(554, "5.5.1", "No valid recipients; say RCPT first")
NEED_RECIPIENT_LMTP = Reply(503, "5.5.1", "No valid recipients; say RCPT first")
BAD_CHUNK = Reply(501, "5.5.4", "Invalid size of a chunk; closing the connection")
PARAMETERS_NEED_EHLO = Reply(555, "5.5.4", "Parameters need EHLO first")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized or not implemented")
NO_FORWARDING = Reply(550, "5.7.1", "This mail goes to another domain and cannot be sent from here")
UNKNOWN_RECIPIENT = Reply(550, "5.1.1", "No such mailbox here")
MAILBOX_DISABLED = Reply(550, "5.2.1", "This mailbox is disabled")
NO_RELAY = Reply(550, "5.7.1", "This domain is not ours; relaying denied: to send, use submission")
NO_WAY_OUT = Reply(550, "5.7.1", "Mail for other domains cannot be sent from here")
NEED_SMTPUTF8 = Reply(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
TOO_LARGE = Reply(552, "5.3.4", "Message too large")
HEADER_TOO_LARGE = Reply(552, "5.3.4", "The header of the message is too large")
BARE_CR_OR_LF = Reply(550, "5.6.11", "Bare CR or LF in the message; its lines must end with CR LF")
TEXT_LINE_TOO_LONG = Reply(550, "5.6.0", "A line of the message is too long")
FORWARDED_IN_A_LOOP = Reply(554, "5.4.6", "This mail was at its forwarding address before: a loop")
NO_SUCH_DOMAIN = Reply(553, "5.1.3", "The part after the @ is no domain")
SPAM_STAYS = Reply(550, "5.7.1", "This mail looks like spam and is not forwarded")
TAKES_NO_MAIL = Reply(556, "5.1.10", "This domain takes no mail (null MX)")
TOO_MANY_HOPS = Reply(554, "5.4.6", "Too many Received fields; a mail loop, it seems")
