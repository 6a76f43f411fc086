"""The table of keys: which keys postoffice.yaml may have, their defaults, and what they are for."""

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
    """A mapping with keys of its own."""

    name: str
    text: str
    keys: tuple[Key | Items, ...]


@dataclass(frozen=True)
class PluginSection:
    """
    A mapping with ``kind``, which selects a plugin, and the keys of that plugin's maker.

    ``maker`` is the interface of the makers. ``default`` is the kind to use if the
    section is missing, or "" for no plugin; then ``example`` names one of the kinds.
    ``several`` makes the section a list of such mappings. Every kind has the keys in
    ``common``; if a maker has a key of the same name, the maker's key replaces the common
    one.
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
        """An example of the mapping, for error texts."""
        return f"kind: {self.default or self.example}"


@dataclass(frozen=True)
class Items:
    """
    A list of mappings with ``keys``.

    If ``short`` is set, a plain value in the list stands for a mapping with this one key.
    ``default`` holds plain values; if it is None, ``otherwise`` describes the default in
    words.
    """

    name: str
    text: str
    keys: tuple[Key, ...]
    short: str = ""
    default: tuple[str, ...] | None = ()
    otherwise: str = ""
    example: str = "[]"


Entry = Key | Section | PluginSection | Items

#: The first key of each plugin section.
KIND = Key("kind", TEXT, REQUIRED, "The name of the plugin.")


def _user(value: Any) -> str:
    name: str = TEXT.read(value)
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise ValueError("this machine has no user of that name") from None
    return name


USER = Kind("the name of a user of this machine", _user)

#: What may happen to a message that does not fit the quota (``Quota.over``).
OVER = ("reject", "defer", "make-room")

_ENDPOINT_KEY = Key(
    "endpoint", ENDPOINT, REQUIRED, "The endpoint on which the service listens.", "tcp:2525"
)
_PROXY_FROM = Key(
    "proxy_from",
    list_of(NETWORK),
    (),
    "Load balancers in front of this listener. They must, and nobody else may, start each "
    "connection with a PROXY protocol header (version 1 or 2) that names the real client, before "
    "TLS and before the greeting. For all other peers the address of the connection counts.",
)
_XCLIENT_FROM = Key(
    "xclient_from",
    list_of(NETWORK),
    (),
    "Mail servers in front of this listener that may name the real client with XCLIENT.",
)


_HOW = (
    "The authentication mechanisms (AUTH). Clients use the strongest mechanism on offer and do "
    "not fall back: offer SCRAM-SHA-256 or CRAM-MD5 only when all accounts have what it needs "
    "(`postoffice check-config` counts the accounts that do not). With TLS, SCRAM-SHA-256 implies "
    "SCRAM-SHA-256-PLUS. OAUTHBEARER and XOAUTH2 need an entry in `checkers` that accepts tokens."
)
_APOP = (
    " USER and PASS are allowed if PLAIN or LOGIN is. APOP needs what CRAM-MD5 needs, and is only "
    "for very old clients: see docs/pop3.rst."
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


#: The services that listen by default only if there is a certificate, and their endpoints.
WITH_CERTIFICATE = {
    "submissions": "tcp:2465:interface=127.0.0.1",
    "pop3s": "tcp:2995:interface=127.0.0.1",
}

TABLE: tuple[Entry, ...] = (
    Key(
        "hostname",
        HOSTNAME,
        REQUIRED,
        "The name of this machine in the mail system. It appears in greetings and in the Received "
        "fields of all mail that the post office receives.",
        "mail.example.net",
    ),
    Key(
        "state",
        PATH,
        "/var/lib/postoffice",
        "The folder for all data of the post office, relative to the folder of this file. It is "
        "created if it is missing.",
    ),
    Key(
        "user",
        USER,
        None,
        "The user to run as. If root starts it, the post office switches to this user as soon as "
        "its ports are open, before it touches the state folder; the `postoffice` command "
        "switches too. The state folder must belong to this user. Without this key a daemon "
        "started by root stays root, with a warning.",
        "postoffice",
    ),
    Key(
        "postmaster",
        ADDRESS,
        REQUIRED,
        "The account that gets the mail for <Postmaster>, and for postmaster@ in every local "
        "domain (RFC 5321 §4.5.1).",
        "postmaster@example.net",
    ),
    Section(
        "listeners",
        "Where clients connect: for each service a list of Twisted endpoints. tcp:25 is every "
        "IPv4 address, tcp6:25 every IPv6 and IPv4 address, tcp:25:interface=192.0.2.1 one of "
        "them, unix:/run/postoffice/smtp a UNIX socket. To set more keys for an endpoint, write a "
        "mapping instead. An empty list, [], closes the service.",
        (
            _listener(
                "smtp",
                "SMTP: receives mail from anyone, for local accounts. Other mail servers connect "
                "to port 25: tcp6:25.",
                "tcp:2525:interface=127.0.0.1",
                _mechanisms(),
                _PROXY_FROM,
                _XCLIENT_FROM,
            ),
            _listener(
                "submission",
                "Message submission: users send mail after they have logged in (RFC 6409). The "
                "usual port is 587.",
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
                "LMTP (RFC 2033): receives mail from a mail server in front, such as Postfix or "
                "Exim. Every client that can connect may deliver mail, so use a UNIX socket or a "
                "loopback address.",
                "tcp:2424:interface=127.0.0.1",
                _PROXY_FROM,
                _XCLIENT_FROM,
            ),
            _listener(
                "pop3",
                "POP3: users fetch their mail. The usual port is 110.",
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
        "Encryption of connections: TLS 1.2 and later.",
        (
            Items(
                "certificates",
                "Certificates with their chains, and their private keys, in PEM files; the paths "
                "are relative to the folder of this file. A client that asks for a host name "
                "(SNI) gets the certificate for this name; all other clients get the first one. "
                "The post office reads a changed file within ten seconds, without a restart.",
                (
                    Key(
                        "certificate",
                        PATH,
                        REQUIRED,
                        "The certificate, followed by its chain.",
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
                "Where a password may be sent over a connection without TLS: never, from this "
                "machine only (loopback), or always. Use always only in a network that you trust.",
            ),
        ),
    ),
    Section(
        "submission",
        "Limits on the mail that users submit.",
        (
            Key(
                "senders",
                one_of("own", "any"),
                "own",
                "Which sender addresses (MAIL FROM) a user may use: addresses that lead to their "
                "own account (own), or any (any).",
            ),
            Key(
                "foreign_from",
                one_of("off", "log", "refuse"),
                "log",
                "What happens to a submitted message if an address in its From field does not "
                "lead to the user's own account: it is accepted (off), accepted and logged (log), "
                "or refused (refuse).",
            ),
        ),
    ),
    PluginSection(
        "accounts",
        "Account directories, in the order in which they are asked. The `postoffice` command "
        "edits the first one that it can write to.",
        IDirectoryMaker,
        "sqlite",
        several=True,
    ),
    Key(
        "checkers",
        list_of(TEXT),
        (),
        "Further login checkers, for logins that no directory accepts, in the order in which they "
        "are asked: twisted.cred checkers, in the form of twistd's --auth "
        "(file:/etc/mail.passwd). A user whom a checker accepts must also have an account here; "
        "see docs/pop3.rst.",
    ),
    PluginSection("store", "The mail store.", IStoreMaker, "maildir"),
    Section(
        "quota",
        "The quota of accounts for which neither the account nor its domain sets one (`postoffice "
        "account set`, `postoffice domain set`); see docs/quotas.rst.",
        (
            Key("bytes", SIZE, "1 GiB", "Octets of all messages together; 0: no limit."),
            Key("messages", WHOLE, 0, "Number of messages; 0: no limit."),
            Key(
                "postmaster",
                SIZE,
                "1 GiB",
                "Octets of the postmaster's maildrop; the quotas of that account and its domain "
                "do not apply. Mail to the postmaster is always accepted (RFC 5321 §4.5.1), and "
                "beyond this limit the oldest messages are removed (make-room); 0: no limit.",
            ),
            Key(
                "over",
                one_of(*OVER),
                "reject",
                "What happens to a message that does not fit the quota: it is rejected for good "
                "(reject, 552), or its sender is told to try again later (defer, 452), or the "
                "oldest messages are removed until it fits, fetched ones first (make-room).",
            ),
            Key(
                "warnings",
                list_of(PERCENT),
                (80, 95),
                "At which usage, in percent of the quota, the owner gets a warning by mail, once "
                "a day at most. An empty list, [], turns warnings off.",
            ),
            Key(
                "warning_text",
                PATH,
                None,
                "A file with the text of the warning mail, instead of the built-in text: the "
                "subject, an empty line, and the body, with ${address}, ${percent}, ${used} and "
                "${limit}. The path is relative to the folder of this file.",
                "quota-warning.txt",
            ),
        ),
    ),
    Section(
        "retention",
        "How long mail is kept, for accounts where neither the account nor its domain sets it "
        "(`postoffice account set`, `postoffice domain set`); see docs/retention.rst. POP3 "
        "clients are told this time (EXPIRE).",
        (
            Key(
                "keep",
                DAYS,
                0,
                "How long a message is kept after it arrived, whether fetched or not, such as 90 "
                "days; 0: forever.",
            ),
            Key(
                "keep_collected",
                DAYS,
                0,
                "How long a message is kept after it was collected, which means: sent whole to a "
                "POP3 client that then ended its session with QUIT; 0: forever.",
            ),
            Key(
                "delete_on_collect",
                TRUTH,
                False,
                "Whether a message is deleted as soon as it is collected.",
            ),
            Key(
                "devices",
                one_of(*DEVICES),
                "any",
                "Which devices (app passwords) of the account must have collected a message "
                "before it counts as collected: any one of them, or all of them.",
            ),
        ),
    ),
    Section(
        "pop3",
        "POP3 settings of accounts for which neither the account nor its domain sets them.",
        (
            Key(
                "login_delay",
                DURATION,
                0,
                "The least time between two logins of one account, such as 5 min (LOGIN-DELAY).",
            ),
            Key(
                "in_use",
                one_of(*IN_USE),
                "refuse",
                "What happens to a login while another session holds the maildrop: it is refused "
                "(refuse), or waits until the other session ends (wait), or takes over from a "
                "session that is idle or half dead, which can then delete nothing (take-over); "
                "see docs/in-use.rst.",
            ),
            Key("wait", DURATION, 30, "How long such a login waits (`in_use: wait`)."),
        ),
    ),
    PluginSection(
        "policies",
        "Policies that decide whether to accept mail, in the order in which they are asked; see "
        "docs/policies.rst.",
        IPolicyMaker,
        "",
        several=True,
        common=COMMON,
        example="helo",
    ),
    Section(
        "limits",
        "Limits for each client.",
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
                "Recipients of one message; beyond it the sending server is told to send the "
                "message again to the rest.",
            ),
            Key(
                "text_line",
                at_least(998, SIZE),
                "64 KiB",
                "Octets of one line of a message, without its line end. Real mail has longer "
                "lines than the 998 octets of RFC 5321; a message with a line beyond this limit "
                "is refused.",
            ),
            Key(
                "errors",
                POSITIVE,
                20,
                "Wrong commands in one session, including unknown recipients, before the session "
                "is closed.",
            ),
            Key(
                "tarpit",
                DURATION,
                1,
                "Seconds by which the reply to each wrong command is delayed, once half of "
                "`errors` are used up.",
            ),
            Key(
                "commands",
                POSITIVE,
                200,
                "Commands between two messages that do not lead to one (NOOP, RSET and the like), "
                "before an SMTP session is closed. A session may also get this many temporary "
                "errors, and `recipients` more. Also the number of commands in a POP3 session "
                "before login.",
            ),
            Key(
                "logins", POSITIVE, 5, "Failed logins in one session, before the session is closed."
            ),
            Key(
                "wrong_passwords",
                RATE,
                "10/min",
                "How many wrong passwords of one client (an IPv4 address or an IPv6 /64) are "
                "checked. Further logins of this client are delayed, and then refused with a "
                "temporary error. Clients on this machine have no limit. See docs/security.rst.",
            ),
            Key(
                "wrong_passwords_per_account",
                RATE,
                "100/h",
                "The same limit for all wrong passwords of one account. The owner can still log "
                "in from addresses of recent successful logins.",
            ),
            Key(
                "unknown_recipients",
                POSITIVE,
                100,
                "Unknown recipients of one client (an IPv4 address or an IPv6 /64) in an hour; "
                "after that, each further one ends the session. Clients on this machine have no "
                "limit.",
            ),
            Key(
                "greeting_delay",
                DURATION,
                0,
                "Seconds by which the greeting to SMTP clients from other machines is delayed. A "
                "client that speaks before the greeting is disconnected; spam software often "
                "does. 5 catches most of it.",
            ),
            Key(
                "handshake",
                DURATION,
                30,
                "Seconds that a client has before its first command, for the TLS handshake and "
                "for the PROXY header of a load balancer.",
            ),
            Key(
                "text_pace",
                POSITIVE,
                100,
                "The least speed, in octets a second, at which a client must send the text of a "
                "message, on average over five minutes.",
            ),
            Key(
                "connections",
                POSITIVE,
                10000,
                "Simultaneous connections, of all services together. Half of them are reserved, "
                "in equal parts for each service. The daemon lowers this limit at startup, with a "
                "warning, if the system allows too few open files.",
            ),
            Key(
                "connections_per_client",
                POSITIVE,
                100,
                "Simultaneous connections from one IPv4 address or one IPv6 /64; four times as "
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
