"""The settings of ``outbound``: where mail for other domains goes, and how."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from postoffice.config import outbound_values as values
from postoffice.config.schema import key, list_of_sections, named_sections, section
from postoffice.model import config_values as kinds
from postoffice.model.hop import LEVELS
from postoffice.model.queued_message import FORWARD_FAILURES
from postoffice.model.route import Direct, Host, Refuse, Route, Smarthost
from postoffice.outbound.mail_hosts import HostRules
from postoffice.outbound.routes import Router, Rule
from postoffice.outbound.sending_rate import Rates, SendingRate, SendingRules
from postoffice.outbound.tls_policy import TLSRules

_Rates = tuple[tuple[int, float], ...]

#: The port of SMTP with TLS from the first octet (RFC 8314).
IMPLICIT_PORT = 465
#: The values of ``ip``: the versions of IP that are used, the preferred one first.
FAMILIES = {"v4-first": (4, 6), "v6-first": (6, 4), "v4": (4,), "v6": (6,)}


@dataclass(frozen=True, kw_only=True)
class RouteSettings:
    """
    One route.

    from_: For which senders (MAIL FROM): addresses, domains, .example.net for all domains below
        example.net, and "<>" for bounces. Without this key: for all.
    to: For which recipients, in the same way.
    via: Where the mail goes. direct: to the mail servers of the recipient's domain, by MX records.
        A smarthost of `smarthosts`, by its name. smtp:HOST or smtp:HOST:PORT: a host that needs no
        login. lmtp:HOST:PORT or lmtp:unix:/PATH: an LMTP server. refuse: nowhere, with 550 5.7.1.
    words: What the reply says (`via: refuse`).
    """

    from_: tuple[str, ...] | None = key(values.PATTERNS, None, "[ann@example.org]")
    to: tuple[str, ...] | None = key(values.PATTERNS, None, "[partner.example, .corp.example]")
    via: Direct | Host | Refuse | str = key(values.VIA, kinds.REQUIRED, "direct")
    words: str | None = key(values.REFUSAL, None, "We do not write there")

    def rule(self, smarthosts: Mapping[str, Smarthost]) -> Rule:
        """The route and its conditions."""
        route: Route = smarthosts[self.via] if isinstance(self.via, str) else self.via
        if isinstance(route, Refuse) and self.words is not None:
            route = Refuse(self.words)
        return Rule(route, _set(self.from_), _set(self.to))


def _set(patterns: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if patterns is None else frozenset(patterns)


@dataclass(frozen=True, kw_only=True)
class SmarthostSettings:
    """
    One mail server that sends our mail on, such as a provider's.

    host: Its name or IP address.
    port: Its port: 587 for submission, 465 with TLS from the first octet, 25 for a relay.
    login: The user name, if it wants a login.
    password_file: The file with the password, in its first line. The path is relative to the folder
        of this file. Only the user of the post office should be able to read it.
    tls: How the connection is encrypted: not at all (none), if the server offers it
        (opportunistic), always (encrypt), or always, and the certificate must be valid for the host
        (verify).
    implicit: Whether TLS begins with the first octet. Default: true for port 465.
    rate: How many messages are sent to it at most, in which time.
    sign: Whether mail for it gets our DKIM signature; some smarthosts sign themselves. A message
        that goes to other hosts, too, is signed.
    """

    host: str = key(values.HOST, kinds.REQUIRED, "smtp.provider.example")
    port: int = key(values.PORT, 587)
    login: str | None = key(kinds.TEXT, None, "user")
    password_file: str | None = key(kinds.PATH, None, "provider.secret")
    tls: str = key(kinds.one_of(*LEVELS), "verify")
    implicit: bool | None = key(kinds.TRUTH, None, "true")
    rate: tuple[int, float] = key(kinds.RATE, "300/h")
    sign: bool = key(kinds.TRUTH, True)

    #: Not a key: the contents of the file.
    password: str = field(default="", repr=False)

    def route(self, name: str) -> Smarthost:
        """The smarthost as a route."""
        implicit = self.port == IMPLICIT_PORT if self.implicit is None else self.implicit
        return Smarthost(
            name=name,
            host=self.host,
            port=self.port,
            login=self.login or "",
            password=self.password,
            level=self.tls,
            implicit=implicit,
            rate=self.rate,
            sign=self.sign,
        )


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """
    How long mail waits, and how much of it.

    lifetime: How long sending is tried; after that, the mail bounces.
    warn: After which time the sender is told that the mail still waits; 0: never.
    bounce_lifetime: How long sending a bounce is tried.
    messages: How many messages may wait; beyond that, mail for other domains is refused with a
        temporary error.
    bytes: How many octets may wait, in the same way.
    account_share: How much of both may be mail of one account, in per cent; beyond that, its mail
        for other domains, and what it forwards, is refused with a temporary error.
    """

    lifetime: float = key(kinds.DURATION, "4 days")
    warn: float = key(kinds.DURATION, "4 h")
    bounce_lifetime: float = key(kinds.DURATION, "1 day")
    messages: int = key(kinds.POSITIVE, 100000)
    bytes: int = key(kinds.at_least("1 MiB", kinds.SIZE), "20 GiB")
    account_share: int = key(kinds.PERCENT, 25)


def _rates(recipients: _Rates, device_recipients: _Rates, over: str) -> Rates:
    account, device = (
        [SendingRate(*one) for one in ones] for ones in (recipients, device_recipients)
    )
    return Rates(tuple(account), tuple(device), hold=over == "hold")


@dataclass(frozen=True, kw_only=True)
class LimitException:
    """
    Other limits for some accounts.

    accounts: Their addresses, or their domains, as in routes.
    recipients: How many recipients, in which time; [] for no limit.
    device_recipients: The same for each password of an account.
    """

    accounts: tuple[str, ...] = key(values.PATTERNS, kinds.REQUIRED, "[news@example.net]")
    recipients: _Rates = key(kinds.list_of(kinds.RATE), kinds.REQUIRED, "[5000/h]")
    device_recipients: _Rates = key(kinds.list_of(kinds.RATE), ())


_EXCEPTIONS = "[{accounts: [news@example.net], recipients: [5000/h]}]"


@dataclass(frozen=True, kw_only=True)
class SendingLimitSettings:
    """
    How much an account may send to other domains, so that a stolen password does little harm.

    recipients: How many recipients, in which time. An empty list, []: no limit.
    device_recipients: The same for each password of the account: its own, and each of its devices'
        (app passwords).
    exceptions: Other limits for some accounts; the first that fits counts.
    over: What happens beyond it, and if too many recipients are refused by other servers: the
        message is taken and held until an administrator decides (hold), or it is refused with a
        temporary error (refuse).
    """

    recipients: _Rates = key(kinds.list_of(kinds.RATE), ("200/h", "1000/d"), '["200/h", "1000/d"]')
    device_recipients: _Rates = key(kinds.list_of(kinds.RATE), ())
    exceptions: tuple[LimitException, ...] = key(
        list_of_sections(LimitException, _EXCEPTIONS), (), _EXCEPTIONS
    )
    over: str = key(kinds.one_of("hold", "refuse"), "hold")

    @property
    def rules(self) -> SendingRules:
        """The limits, as they are counted."""
        return SendingRules(
            _rates(self.recipients, self.device_recipients, self.over),
            tuple(
                (
                    frozenset(one.accounts),
                    _rates(one.recipients, one.device_recipients, self.over),
                )
                for one in self.exceptions
            ),
        )


@dataclass(frozen=True, kw_only=True)
class OutboundConnections:
    """
    Simultaneous connections to other servers.

    destination: To one destination at most.
    all: To all together.
    """

    destination: int = key(kinds.POSITIVE, 10)
    all: int = key(kinds.POSITIVE, 100)


@dataclass(frozen=True, kw_only=True)
class DomainTLS:
    """
    How connections for one domain are encrypted.

    domain: The recipient's domain; .example.net for all domains below example.net. The rule for
        the longest name counts.
    level: Not at all (none), if the server offers it (opportunistic), always (encrypt), or always,
        and with a valid certificate (verify).
    """

    domain: str = key(values.DOMAINS, kinds.REQUIRED, "bank.example")
    level: str = key(kinds.one_of(*LEVELS), kinds.REQUIRED, "verify")


_DOMAINS = "[{domain: bank.example, level: verify}]"


@dataclass(frozen=True, kw_only=True)
class OutboundTLS:
    """
    Encryption of connections to other servers. Without a rule for the domain, TLS is used if the
    server offers it.

    mta_sts: Whether the policies of domains (MTA-STS, RFC 8461) are looked up and kept.
    domains: Rules of your own for domains; they come before those of the domain itself.
    ca: A file with the certificates, in PEM form, that are trusted beside those of the system, such
        as those of a private authority. The path is relative to the folder of this file.
    """

    mta_sts: bool = key(kinds.TRUTH, True)
    domains: tuple[DomainTLS, ...] = key(list_of_sections(DomainTLS, _DOMAINS), (), _DOMAINS)
    ca: str | None = key(kinds.PATH, None, "/etc/ssl/our-ca.pem")

    def rules(self) -> TLSRules:
        """The rules for domains, as sending asks them."""
        return TLSRules({rule.domain: rule.level for rule in self.domains})


@dataclass(frozen=True, kw_only=True)
class DNSSettings:
    """
    Name servers.

    servers: Their IP addresses, with the port if it is not 53. An empty list, []: those of
        /etc/resolv.conf.
    trust_ad: Whether they, and the way to them, are trusted to validate DNSSEC. A server on this
        machine always is.
    """

    servers: tuple[tuple[str, int], ...] = key(kinds.list_of(values.NAMESERVER), ())
    trust_ad: bool = key(kinds.TRUTH, False)


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """
    From which of the addresses of this machine connections are made.

    v4: The IPv4 address; its reverse name should be the `hostname`.
    v6: The IPv6 address.
    """

    v4: IPv4Address | None = key(values.IPV4, None, "192.0.2.10")
    v6: IPv6Address | None = key(values.IPV6, None, '"2001:db8::10"')


@dataclass(frozen=True, kw_only=True)
class SRSSettings:
    """
    Sender rewriting: what a stranger sends and an alias or account forwards goes out with a sender
    address of ours. The secret for it is made in the state folder.

    domain: The domain of these addresses, one of ours. Default: that of the address whose mail is
        forwarded.
    """

    domain: str | None = key(kinds.HOSTNAME, None, "example.net")


_SMARTHOSTS = (
    "{provider: {host: smtp.provider.example, port: 465, login: user, password_file: "
    "provider.secret}}"
)
_ROUTES = "[{to: [partner.example], via: provider}, {via: direct}]"


@dataclass(frozen=True, kw_only=True)
class OutboundSettings:
    """
    Sending to other domains; see docs/sending.rst. Without this section nothing leaves this post
    office: mail for other domains is refused.

    routes: Where mail goes: the first route that fits. The last one should have neither `from` nor
        `to`; mail that fits no route is refused.
    smarthosts: Mail servers that send our mail on, by names of your choice.
    ip: Which IP addresses of other servers are used: both kinds, with IPv4 or IPv6 first (v4-first,
        v6-first), or only one kind (v4, v6). Use IPv6 first only if the reverse name of this
        machine's IPv6 address is its `hostname`.
    addresses: Addresses under which other machines know this one, if a router in front of it
        translates them: mail is never sent to them.
    private: Whether mail may be sent to private addresses, such as 10.0.0.1, that a domain names in
        the DNS. Hosts in `routes` and `smarthosts` may have any address.
    forward_spam: Whether aliases and forwards send mail on to other domains that a policy has
        marked as spam. Else it stays here, or is refused where nobody here gets it.
    forward_failures: Who is told if what an account forwards for strangers cannot be delivered: the
        sender (sender), who may not be the real one; the owner of the account, in its own maildrop
        (owner); or nobody (drop).
    """

    routes: tuple[RouteSettings, ...] = key(
        list_of_sections(RouteSettings, _ROUTES), ({"via": "direct"},), _ROUTES
    )
    smarthosts: Mapping[str, SmarthostSettings] = key(
        named_sections(SmarthostSettings, _SMARTHOSTS), {}, _SMARTHOSTS
    )
    queue: QueueSettings = section(QueueSettings)
    limits: SendingLimitSettings = section(SendingLimitSettings)
    connections: OutboundConnections = section(OutboundConnections)
    tls: OutboundTLS = section(OutboundTLS)
    dns: DNSSettings = section(DNSSettings)
    ip: str = key(kinds.one_of(*FAMILIES), "v4-first")
    source: SourceSettings = section(SourceSettings)
    addresses: tuple[IPv4Address | IPv6Address, ...] = key(kinds.list_of(values.IP), ())
    private: bool = key(kinds.TRUTH, False)
    srs: SRSSettings = section(SRSSettings)
    forward_spam: bool = key(kinds.TRUTH, False)
    forward_failures: str = key(kinds.one_of(*FORWARD_FAILURES), "sender")

    def host_rules(self, hostname: str, local: Collection[str]) -> HostRules:
        """Which hosts mail may go to, given our name and this machine's addresses."""
        ours = [*self.addresses, *filter(None, (self.source.v4, self.source.v6))]
        return HostRules(
            own_names=frozenset({hostname.lower()}),
            own_addresses=frozenset([*local, *map(str, ours)]),
            families=FAMILIES[self.ip],
            private=self.private,
        )

    def router(self) -> Router:
        """The routes, as the reception and the queue ask them."""
        smarthosts = {name: one.route(name) for name, one in self.smarthosts.items()}
        return Router([one.rule(smarthosts) for one in self.routes])
