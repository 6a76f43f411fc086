"""The configuration: where it is looked for, and what it says, as frozen settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from string import Template
from typing import Any

from postoffice.config.endpoints import twice
from postoffice.config.reader import ChosenPlugin, FindMaker, Reader, TryEndpoint
from postoffice.config.schema import TABLE, WITH_CERTIFICATE
from postoffice.config.source import ConfigurationError, Source, compose
from postoffice.model.address import Address, Quota
from postoffice.model.mail_policy import MailPolicy
from postoffice.server.certificates import CertificateFiles

Network = IPv4Network | IPv6Network

#: Where a configuration is looked for, in this order.
PLACES = ("postoffice.yaml", "/etc/postoffice/postoffice.yaml")
#: Names other places, with ``:`` between, in the environment: for tests, and for several offices.
OTHER_PLACES = "POSTOFFICE_PLACES"
#: The state folder of a post office without a configuration.
FIRST_RUN_STATE = "postoffice-data"
#: What it would say; all else is as it comes.
FIRST_RUN = """\
hostname: localhost
postmaster: demo@localhost
state: postoffice-data
limits: {connections: 200}
"""
#: What a letter to the owner of a maildrop may name.
LETTER_WORDS = frozenset(("address", "percent", "used", "limit"))
#: Octets of a configuration file.
SIZE_MAXIMUM = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Sizes are octets, rates are how many in how many seconds; see the table of keys."""

    message_size: int
    recipients: int
    text_line: int
    errors: int
    tarpit: float
    commands: int
    logins: int
    wrong_passwords: tuple[int, float]
    wrong_passwords_per_account: tuple[int, float]
    unknown_recipients: int
    greeting_delay: float
    handshake: float
    text_pace: int
    connections: int
    connections_per_client: int


@dataclass(frozen=True)
class ListenerSettings:
    """One endpoint of a service, how clients log in there, and who may speak for others."""

    endpoint: str
    mechanisms: tuple[str, ...] = ()
    proxy_from: tuple[Network, ...] = ()
    xclient_from: tuple[Network, ...] = ()


@dataclass(frozen=True)
class Settings:
    """
    What the configuration says, wherever it says it; paths are absolute.

    ``listeners`` has the endpoints of each service; ``senders`` is ``own`` or
    ``any``.  ``quota`` and ``serving`` are those of all who have no other: none
    of them is None; ``postmaster_quota`` is the postmaster's.
    Owners are told when their maildrop is so full as ``warnings`` say, in
    percent, smallest first, in the words of ``warning_text`` or, where
    that is empty, in ours.  ``first_run`` is whether there was no configuration at all.
    """

    source: Source = field(compare=False)
    hostname: str
    state: str
    user: str | None
    postmaster: Address
    listeners: Mapping[str, tuple[ListenerSettings, ...]]
    certificates: tuple[CertificateFiles, ...]
    plaintext_login: str
    senders: str
    foreign_from: str
    accounts: tuple[ChosenPlugin, ...]
    checkers: tuple[str, ...]
    store: ChosenPlugin
    quota: Quota
    warnings: tuple[int, ...]
    warning_text: str
    serving: MailPolicy
    policies: tuple[ChosenPlugin, ...]
    limits: Limits
    first_run: bool = False
    postmaster_quota: Quota = Quota(0, 0, "reject")  # noqa: RUF009


def places() -> tuple[str, ...]:
    """Where a configuration is looked for: as the environment says, or else in PLACES."""
    told = os.environ.get(OTHER_PLACES, "")
    return tuple(filter(None, told.split(os.pathsep))) or PLACES


def find(given: str | None) -> str | None:
    """The configuration file: the one that was given, or the first that is there, or None."""
    if given is not None:
        return given
    for path in places():
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # it is there, and reading it will say what is wrong
        return path
    return None


def load(path: str, find_maker: FindMaker, try_endpoint: TryEndpoint | None = None) -> Settings:
    """The settings in a file.  Raises ConfigurationError, with all that is wrong."""
    return read(_text(path), path, find_maker, try_endpoint)


def first_run(find_maker: FindMaker) -> Settings:
    """The settings where there is no configuration anywhere: all in ./postoffice-data."""
    return read(FIRST_RUN, "first light", find_maker, first_run=True)


def read(
    text: str,
    file: str,
    find_maker: FindMaker,
    try_endpoint: TryEndpoint | None = None,
    *,
    first_run: bool = False,
) -> Settings:
    """The settings in a text, which stands, or will stand, in ``file``.  Raises as ``load``."""
    source = Source(file)
    node = compose(text, source)
    if node is None:
        raise ConfigurationError(source.problems)
    folder = os.path.dirname(os.path.abspath(file))
    letter = ""
    values = Reader(source, find_maker, try_endpoint).read(node, TABLE, folder)
    if not source.problems:
        _see_to_the_secure(values, source)
        _see_to_the_ports(values["listeners"], source)
        letter = _letter(values["quota"]["warning_text"], source)
    if source.problems:
        raise ConfigurationError(source.problems)
    quota = values["quota"]
    return Settings(
        source=source,
        hostname=values["hostname"],
        state=values["state"],
        user=values["user"],
        postmaster=values["postmaster"],
        listeners={
            service: tuple(ListenerSettings(**one) for one in ones)
            for service, ones in values["listeners"].items()
        },
        certificates=tuple(CertificateFiles(**one) for one in values["tls"]["certificates"]),
        plaintext_login=values["tls"]["plaintext_login"],
        senders=values["submission"]["senders"],
        foreign_from=values["submission"]["foreign_from"],
        accounts=values["accounts"],
        checkers=values["checkers"],
        store=values["store"],
        quota=Quota(quota["bytes"], quota["messages"], quota["over"]),
        warnings=tuple(sorted(set(quota["warnings"]))),
        warning_text=letter,
        serving=MailPolicy(**values["retention"], **values["pop3"]),
        policies=values["policies"],
        limits=Limits(**values["limits"]),
        first_run=first_run,
        postmaster_quota=Quota(
            quota["postmaster"], 0, "make-room" if quota["postmaster"] else "reject"
        ),
    )


def _see_to_the_secure(values: dict[str, Any], source: Source) -> None:
    """Services with TLS from the first octet are there with a certificate, and only then."""
    listeners = values["listeners"]
    certificates = values["tls"]["certificates"]
    for service, endpoint in WITH_CERTIFICATE.items():
        if listeners[service] is None:
            listeners[service] = ({"endpoint": endpoint},) if certificates else ()
            if certificates:
                listeners[service][0]["mechanisms"] = ("PLAIN", "LOGIN")
        elif listeners[service] and not certificates:
            source.complain(
                f"listeners.{service}",
                "needs a certificate; add one under tls: certificates:",
                source.lines.get(f"listeners.{service}", 0),
            )


def _see_to_the_ports(listeners: Mapping[str, Any], source: Source) -> None:
    """No two listen at one place."""
    named = [
        (f"listeners.{service}[{number}]", one["endpoint"])
        for service, ones in listeners.items()
        for number, one in enumerate(ones)
    ]
    known = dict(named)
    for key, other in twice(named):
        service = other.removeprefix("listeners.").partition("[")[0]
        source.complain(key, f"{known[key]!r}: {service} listens there already ({known[other]!r})")


def _letter(path: str | None, source: Source) -> str:
    """The text of the letters to owners; "" for ours."""
    key = "quota.warning_text"
    if path is None:
        return ""
    try:
        letter = _text(path)
    except ConfigurationError as error:
        for problem in error.problems:
            source.complain(key, f"{path}: {problem.text}")
        return ""
    subject, _, text = letter.lstrip().partition("\n")
    if not subject.strip() or not text.strip():
        source.complain(key, f"{path} has no subject in its first line, or no text below it")
    for word in sorted(set(Template(letter).get_identifiers()) - LETTER_WORDS):
        known = ", ".join(f"${{{one}}}" for one in sorted(LETTER_WORDS))
        source.complain(key, f"{path} has ${{{word}}}, which is none of {known}")
    return letter


def _text(path: str) -> str:
    """What is in a file.  Raises ConfigurationError."""
    source = Source(path)
    try:
        with open(path, "rb") as file:
            octets = file.read(SIZE_MAXIMUM + 1)
        text = octets.decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            [source.problem("", f"cannot be read: {error.strerror}")]
        ) from None
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        why = f"not UTF-8: the octet 0x{octets[error.start]:02X}; save the file as UTF-8"
        raise ConfigurationError([source.problem("", why, line)]) from None
    if len(octets) > SIZE_MAXIMUM:
        why = f"over {SIZE_MAXIMUM >> 20} MiB; that is no text"
        raise ConfigurationError([source.problem("", why)])
    return text
