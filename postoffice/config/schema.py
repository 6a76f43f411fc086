"""The table of keys: what may stand in postoffice.yaml, with its default and what it is for."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zope.interface.interface import InterfaceClass

from postoffice.interfaces import IDirectoryMaker, IPolicyMaker, IStoreMaker
from postoffice.model.config_values import (
    ADDRESS,
    DAYS,
    DURATION,
    ENDPOINT,
    HOSTNAME,
    NETWORK,
    PATH,
    PERCENT,
    POSITIVE,
    RATE,
    REQUIRED,
    SIZE,
    TEXT,
    TRUTH,
    WHOLE,
    Key,
    Kind,
    at_least,
    list_of,
    one_of,
)
from postoffice.model.mail_policy import DEVICES, IN_USE
from postoffice.policy.common import COMMON
from postoffice.protocol.sasl import MECHANISMS


@dataclass(frozen=True)
class Section:
    """A mapping of further keys."""

    name: str
    text: str
    keys: tuple[Key | Items, ...]


@dataclass(frozen=True)
class PluginSection:
    """
    What a plugin makes: a mapping with ``kind`` and the keys of that kind's maker.

    ``maker`` is the interface of its makers, ``default`` the kind where
    nothing is given, or "" for no room at all, and ``example`` then one of the
    kinds; ``several`` says that it is a list of such mappings.  ``common`` are
    keys that every kind has; a maker's own key of that name stands for it.
    """

    name: str
    text: str
    maker: InterfaceClass
    default: str
    several: bool = False
    common: tuple[Key, ...] = ()
    example: str = ""

    @property
    def such(self) -> str:
        """A mapping as it might be."""
        return f"kind: {self.default or self.example}"


@dataclass(frozen=True)
class Items:
    """
    A list of mappings of ``keys``.

    A plain value in the list stands for a mapping with ``short`` alone, where
    there is one.  ``default`` has plain values; where it is None, ``otherwise``
    says in words what it is.
    """

    name: str
    text: str
    keys: tuple[Key, ...]
    short: str = ""
    default: tuple[str, ...] | None = ()
    otherwise: str = ""
    example: str = "[]"


Entry = Key | Section | PluginSection | Items

#: The first key of each room.
KIND = Key("kind", TEXT, REQUIRED, "The word by which the plugin is found.")


def _user(value: Any) -> str:
    name: str = TEXT.read(value)
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise ValueError("this machine has no user of that name") from None
    return name


USER = Kind("the name of a user of this machine", _user)

#: What may become of a message that does not fit (``Quota.over``).
OVER = ("reject", "defer", "make-room")

_ENDPOINT_KEY = Key("endpoint", ENDPOINT, REQUIRED, "Where it listens.", "tcp:2525")
_PROXY_FROM = Key(
    "proxy_from",
    list_of(NETWORK),
    (),
    "Balancers in front of it: they, and nobody else, say first for whom they speak, by the PROXY "
    "protocol (version 1 or 2), before TLS and before the greeting. Everybody else is who he is.",
)
_XCLIENT_FROM = Key(
    "xclient_from",
    list_of(NETWORK),
    (),
    "Mail servers in front of it, which may say for whom they speak by XCLIENT.",
)


_HOW = (
    "How clients may log in (AUTH). Clients take the strongest that is offered and do not fall "
    "back: offer SCRAM-SHA-256 or CRAM-MD5 when all accounts have what it needs "
    "(`postoffice check-config` counts). With TLS, SCRAM-SHA-256-PLUS is offered by itself. "
    "OAUTHBEARER and XOAUTH2 need one of `checkers` that takes tokens."
)
_APOP = (
    " USER and PASS are taken where PLAIN or LOGIN is. APOP needs what CRAM-MD5 needs, and is for "
    "very old clients alone: see docs/collecting.rst."
)


def _mechanisms(*default: str) -> Key:
    return Key("mechanisms", list_of(one_of(*MECHANISMS)), default, _HOW)


_POP3_MECHANISMS = Key(
    "mechanisms", list_of(one_of(*MECHANISMS, "APOP")), ("PLAIN", "LOGIN"), _HOW + _APOP
)


def _listener(
    name: str, text: str, endpoint: str, *keys: Key, with_certificate: bool = False
) -> Items:
    return Items(
        name,
        text,
        (_ENDPOINT_KEY, *keys),
        short="endpoint",
        default=None if with_certificate else (endpoint,),
        otherwise=f'["{endpoint}"] where `tls.certificates` has one, else closed',
        example=f'["{endpoint}"]',
    )


#: Services whose default needs a certificate, and what it is then.
WITH_CERTIFICATE = {
    "submissions": "tcp:2465:interface=127.0.0.1",
    "pop3s": "tcp:2995:interface=127.0.0.1",
}

TABLE: tuple[Entry, ...] = (
    Key(
        "hostname",
        HOSTNAME,
        REQUIRED,
        "The name of this machine in the mail system: it stands in greetings and in the Received "
        "fields of all mail that is taken in.",
        "mail.example.net",
    ),
    Key(
        "state",
        PATH,
        "/var/lib/postoffice",
        "The folder for all that the post office keeps. It is relative to the folder of this file, "
        "and is made when it is missing.",
    ),
    Key(
        "user",
        USER,
        None,
        "Started by root, the post office becomes this user as soon as its ports are open, before "
        "it touches the state folder; so does the `postoffice` command. The state folder must "
        "belong to this user. Without it root stays root, with a warning.",
        "postoffice",
    ),
    Key(
        "postmaster",
        ADDRESS,
        REQUIRED,
        "The account that gets the mail for <Postmaster>, and for postmaster@ every domain of ours "
        "(RFC 5321 §4.5.1).",
        "postmaster@example.net",
    ),
    Section(
        "listeners",
        "Where clients connect: for each service a list of Twisted endpoints. tcp:25 is every IPv4 "
        "address, tcp6:25 every IPv6 and IPv4 address, tcp:25:interface=192.0.2.1 one of them, "
        "unix:/run/postoffice/smtp a UNIX socket. Instead of an endpoint there may be a mapping "
        "of it and more keys. An empty list, [], closes the service.",
        (
            _listener(
                "smtp",
                "Mail comes in, from anyone to the accounts here (SMTP). The world sends to "
                "port 25: tcp6:25.",
                "tcp:2525:interface=127.0.0.1",
                _mechanisms(),
                _PROXY_FROM,
                _XCLIENT_FROM,
            ),
            _listener(
                "submission",
                "Our own users send, after they have logged in (RFC 6409). The usual port is 587.",
                "tcp:2587:interface=127.0.0.1",
                _mechanisms("PLAIN", "LOGIN"),
                _PROXY_FROM,
                _XCLIENT_FROM,
            ),
            _listener(
                "submissions",
                "The same with TLS from the first octet (RFC 8314). The usual port is 465.",
                WITH_CERTIFICATE["submissions"],
                _mechanisms("PLAIN", "LOGIN"),
                _PROXY_FROM,
                _XCLIENT_FROM,
                with_certificate=True,
            ),
            _listener(
                "lmtp",
                "A mail server in front hands over (LMTP, RFC 2033): Postfix, Exim. Whoever can "
                "connect may post, so a UNIX socket or loopback is the place for it.",
                "tcp:2424:interface=127.0.0.1",
                _PROXY_FROM,
                _XCLIENT_FROM,
            ),
            _listener(
                "pop3",
                "Mail is collected by the owners of the accounts (POP3). The usual port is 110.",
                "tcp:2110:interface=127.0.0.1",
                _POP3_MECHANISMS,
                _PROXY_FROM,
            ),
            _listener(
                "pop3s",
                "The same with TLS from the first octet (RFC 8314). The usual port is 995.",
                WITH_CERTIFICATE["pop3s"],
                _POP3_MECHANISMS,
                _PROXY_FROM,
                with_certificate=True,
            ),
        ),
    ),
    Section(
        "tls",
        "What is protected on the wire: TLS 1.2 and later.",
        (
            Items(
                "certificates",
                "Certificates with their chains, and their keys, in PEM files; the paths are "
                "relative to the folder of this file. A client that names a host (SNI) gets the "
                "one for it, all others the first. A changed file is taken up by itself, within "
                "ten seconds.",
                (
                    Key(
                        "certificate",
                        PATH,
                        REQUIRED,
                        "The certificate, and the chain behind it.",
                        "/etc/ssl/mail.pem",
                    ),
                    Key("key", PATH, REQUIRED, "Its private key.", "/etc/ssl/mail.key"),
                ),
                example="[{certificate: /etc/ssl/mail.pem, key: /etc/ssl/mail.key}]",
            ),
            Key(
                "plaintext_login",
                one_of("never", "loopback", "always"),
                "loopback",
                "From where passwords are taken over a link that others could listen to: never, "
                "from this machine only (loopback), or always. Take always only in a network that "
                "you trust.",
            ),
        ),
    ),
    Section(
        "submission",
        "What our own users may send.",
        (
            Key(
                "senders",
                one_of("own", "any"),
                "own",
                "As whom they may send (MAIL FROM): addresses that lead to their own account "
                "(own), or anybody (any).",
            ),
            Key(
                "foreign_from",
                one_of("off", "log", "refuse"),
                "log",
                "A message whose From field has an address that does not lead to their own account "
                "is taken (off), taken and told in the log (log), or refused (refuse).",
            ),
        ),
    ),
    PluginSection(
        "accounts",
        "Who has an account: directories, asked in this order. The `postoffice` command edits "
        "the first one that it can write to.",
        IDirectoryMaker,
        "sqlite",
        several=True,
    ),
    Key(
        "checkers",
        list_of(TEXT),
        (),
        "Who else is asked whether a login is good, in this order, where no directory says so: "
        "checkers of twisted.cred, as twistd's --auth names them (file:/etc/mail.passwd). Whom "
        "they vouch for must have an account here; see docs/collecting.rst.",
    ),
    PluginSection("store", "Where mail is kept.", IStoreMaker, "maildir"),
    Section(
        "quota",
        "What a maildrop may hold, where neither its account nor its domain says otherwise "
        "(`postoffice account set`, `postoffice domain set`); see docs/quotas.rst.",
        (
            Key("bytes", SIZE, "1 GiB", "Octets of all its messages; 0: any number."),
            Key("messages", WHOLE, 0, "How many messages; 0: any number."),
            Key(
                "postmaster",
                SIZE,
                "1 GiB",
                "Octets of the postmaster's maildrop, whatever his account and his domain say: "
                "his mail is always taken (RFC 5321 §4.5.1), and of more the oldest is removed "
                "(make-room); 0: any number.",
            ),
            Key(
                "over",
                one_of(*OVER),
                "reject",
                "What becomes of a message that does not fit: its sender is told so for good "
                "(reject, 552) or to try again later (defer, 452), or the oldest messages are "
                "removed until it fits, collected ones first (make-room).",
            ),
            Key(
                "warnings",
                list_of(PERCENT),
                (80, 95),
                "How full a maildrop is, in percent, when its owner is warned by mail, once a day "
                "at most. An empty list, [], warns nobody.",
            ),
            Key(
                "warning_text",
                PATH,
                None,
                "A file with the text of that mail, instead of the one that comes with the post "
                "office: its subject, an empty line, the text, with ${address}, ${percent}, "
                "${used} and ${limit}. Relative to the folder of this file.",
                "quota-warning.txt",
            ),
        ),
    ),
    Section(
        "retention",
        "How long mail is kept, where neither its account nor its domain says otherwise "
        "(`postoffice account set`, `postoffice domain set`); see docs/retention.rst. POP3 clients "
        "are told so (EXPIRE).",
        (
            Key(
                "keep",
                DAYS,
                0,
                "For how long after it came, collected or not; such as 90 days; 0: for ever.",
            ),
            Key(
                "keep_collected",
                DAYS,
                0,
                "For how long after it was collected: sent whole to a POP3 client that then "
                "ended its session with QUIT; 0: for ever.",
            ),
            Key(
                "delete_on_collect",
                TRUTH,
                False,
                "Whether mail goes as soon as it is collected.",
            ),
            Key(
                "devices",
                one_of(*DEVICES),
                "any",
                "Who must have collected a message before it counts as collected: any one of "
                "the devices of its account, or all of them.",
            ),
        ),
    ),
    Section(
        "pop3",
        "How mail is handed out, where neither the account nor its domain says otherwise.",
        (
            Key(
                "login_delay",
                DURATION,
                0,
                "How long after a login the same account may log in again, such as 5 min "
                "(LOGIN-DELAY).",
            ),
            Key(
                "in_use",
                one_of(*IN_USE),
                "refuse",
                "What becomes of a login while another session holds the maildrop: it is refused, "
                "or waits for the other to end, or takes over from one that is idle or half dead, "
                "which can then delete nothing; see docs/in-use.rst.",
            ),
            Key("wait", DURATION, 30, "For how long it waits (`in_use: wait`)."),
        ),
    ),
    PluginSection(
        "policies",
        "Who else is asked whether mail may come in, in this order; see docs/policies.rst.",
        IPolicyMaker,
        "",
        several=True,
        common=COMMON,
        example="helo",
    ),
    Section(
        "limits",
        "What one client may ask for.",
        (
            Key(
                "message_size",
                at_least("64 KiB", SIZE),
                "50 MiB",
                "Octets of one message (RFC 1870).",
            ),
            Key(
                "recipients",
                at_least(100, WHOLE),
                1000,
                "Recipients of one message; the sender is told to send the rest apart.",
            ),
            Key(
                "text_line",
                at_least(998, SIZE),
                "64 KiB",
                "Octets of one line of a message, without its line end. Real mail has longer ones "
                "than the 998 of RFC 5321; a message with one beyond this limit is refused.",
            ),
            Key(
                "errors",
                POSITIVE,
                20,
                "Wrong commands in one session, unknown recipients among them, before it is "
                "closed.",
            ),
            Key(
                "tarpit",
                DURATION,
                1,
                "Seconds by which the answer to each wrong command is delayed, when half of "
                "`errors` are used up.",
            ),
            Key(
                "commands",
                POSITIVE,
                200,
                "Commands between two messages that bring none on its way (NOOP, RSET and the "
                "like), before an SMTP session is closed. So many may be told to try again, too, "
                "and `recipients` more. Also the commands of a POP3 session before its login.",
            ),
            Key("logins", POSITIVE, 5, "Failed logins in one session, before it is closed."),
            Key(
                "wrong_passwords",
                RATE,
                "10/min",
                "Wrong passwords of one client (an IPv4 address or an IPv6 /64) that are looked "
                "at; with further ones it has to wait, and is then told to come later. Clients of "
                "this machine may have any number. See docs/logins.rst.",
            ),
            Key(
                "wrong_passwords_per_account",
                RATE,
                "100/h",
                "The same for all wrong passwords of one account. Its owner still gets in from "
                "where he has lately logged in.",
            ),
            Key(
                "unknown_recipients",
                POSITIVE,
                100,
                "Unknown recipients that one client (an IPv4 address or an IPv6 /64) may name in "
                "an hour; then each further one ends the session. Clients of this machine may "
                "name any number.",
            ),
            Key(
                "greeting_delay",
                DURATION,
                0,
                "Seconds that SMTP clients from elsewhere wait for the greeting. Who does not "
                "wait, as programs that send spam often do not, is shown out. 5 catches most.",
            ),
            Key(
                "handshake",
                DURATION,
                30,
                "Seconds that a client has for what comes before the first word: the TLS "
                "handshake, a balancer's PROXY header.",
            ),
            Key(
                "text_pace",
                POSITIVE,
                100,
                "Octets a second that the text of a message must come with, on average over five "
                "minutes.",
            ),
            Key(
                "connections",
                POSITIVE,
                10000,
                "Clients at the same time, of all services together. Half of them are kept for the "
                "services, the same part for each. Start lowers it, with a warning, where the "
                "system allows too few open files.",
            ),
            Key(
                "connections_per_client",
                POSITIVE,
                100,
                "Clients at the same time from one IPv4 address or one IPv6 /64; four times as "
                "many from one IPv6 /48.",
            ),
        ),
    ),
)


def services() -> Iterator[str]:
    """The names of all services that can listen."""
    for entry in TABLE:
        if isinstance(entry, Section) and entry.name == "listeners":
            yield from (key.name for key in entry.keys)
