"""The table of keys: what may stand in postoffice.yaml, with its default and what it is for."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zope.interface.interface import InterfaceClass

from postoffice.interfaces import IDirectoryMaker, IStoreMaker
from postoffice.settings import (
    ADDRESS,
    ENDPOINT,
    HOSTNAME,
    PATH,
    POSITIVE,
    REQUIRED,
    SIZE,
    TEXT,
    WHOLE,
    Key,
    Kind,
    at_least,
    list_of,
    one_of,
)


@dataclass(frozen=True)
class Section:
    """A mapping of further keys."""

    name: str
    text: str
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Room:
    """
    What a plugin makes: a mapping with ``kind`` and the keys of that kind's maker.

    ``maker`` is the interface of its makers, ``default`` the kind where
    nothing is given; ``several`` says that it is a list of such mappings.
    """

    name: str
    text: str
    maker: InterfaceClass
    default: str
    several: bool = False


Entry = Key | Section | Room

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
        "unix:/run/postoffice/smtp a UNIX socket. An empty list, [], closes the service.",
        (
            Key(
                "smtp",
                list_of(ENDPOINT),
                ("tcp:2525:interface=127.0.0.1",),
                "Mail comes in, from anyone to the accounts here (SMTP). The world sends to "
                "port 25: tcp6:25.",
            ),
            Key(
                "pop3",
                list_of(ENDPOINT),
                ("tcp:2110:interface=127.0.0.1",),
                "Mail is collected by the owners of the accounts (POP3). The usual port is 110.",
            ),
        ),
    ),
    Section(
        "tls",
        "What is protected on the wire. There is no TLS yet.",
        (
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
    Room(
        "accounts",
        "Who has an account: directories, asked in this order. The `postoffice` command edits "
        "the first one that it can write to.",
        IDirectoryMaker,
        "sqlite",
        several=True,
    ),
    Room("store", "Where mail is kept.", IStoreMaker, "maildir"),
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
                "Wrong commands in one SMTP session, unknown recipients among them, before it is "
                "closed.",
            ),
            Key(
                "connections",
                POSITIVE,
                10000,
                "Clients at the same time, of all services together. Start lowers it, with a "
                "warning, where the system allows too few open files.",
            ),
            Key(
                "connections_per_client",
                POSITIVE,
                100,
                "Clients at the same time from one IPv4 address or one IPv6 /64.",
            ),
        ),
    ),
)


def services() -> Iterator[str]:
    """The names of all services that can listen."""
    for entry in TABLE:
        if isinstance(entry, Section) and entry.name == "listeners":
            yield from (key.name for key in entry.keys)
