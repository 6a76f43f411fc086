"""The settings, as frozen classes: their fields are the table of keys of postoffice.yaml."""

from __future__ import annotations

import pwd
from dataclasses import dataclass, field

from postoffice.config.chosen_plugin import ChosenPlugin
from postoffice.config.listeners import Listeners
from postoffice.config.outbound import OutboundSettings
from postoffice.config.schema import (
    key,
    list_of_sections,
    optional_section,
    plugin,
    plugins,
    section,
)
from postoffice.config.source import Source
from postoffice.config.web import WebSettings
from postoffice.interfaces import (
    IAccountDirectory,
    IDirectoryMaker,
    IMailStore,
    IPolicy,
    IPolicyMaker,
    IStoreMaker,
)
from postoffice.model import config_values as kinds
from postoffice.model.address import Address, Quota
from postoffice.model.mail_policy import DEVICES, IN_USE, MailPolicy
from postoffice.policy.common import COMMON
from postoffice.server.certificates import CertificateFiles

#: What may happen to a message that does not fit the quota (``quota.over``).
OVER = ("reject", "defer", "make-room")


def _user(value: object) -> str:
    name = kinds.TEXT.read(value)
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise ValueError("this machine has no user of that name") from None
    return name


USER = kinds.Kind("the name of a user of this machine", _user)


@dataclass(frozen=True, kw_only=True)
class CertificateSettings(CertificateFiles):
    """
    The files of one certificate.

    certificate: The certificate, followed by its chain.
    key: Its private key.
    """

    certificate: str = key(kinds.PATH, kinds.REQUIRED, "/etc/ssl/mail.pem")
    key: str = key(kinds.PATH, kinds.REQUIRED, "/etc/ssl/mail.key")


_CERTIFICATES = "[{certificate: /etc/ssl/mail.pem, key: /etc/ssl/mail.key}]"


@dataclass(frozen=True, kw_only=True)
class TLSSettings:
    """
    Encryption of connections: TLS 1.2 and later.

    certificates: Certificates with their chains, and their private keys, in PEM files; the paths
        are relative to the folder of this file. A client that asks for a host name (SNI) gets the
        certificate for this name; all other clients get the first one. The post office reads a
        changed file within ten seconds, without a restart.
    plaintext_login: Where a password may be sent over a connection without TLS: never, from this
        machine only (loopback), or always. Use always only in a network that you trust.
    """

    certificates: tuple[CertificateSettings, ...] = key(
        list_of_sections(CertificateSettings, _CERTIFICATES), (), _CERTIFICATES
    )
    plaintext_login: str = key(kinds.one_of("never", "loopback", "always"), "loopback")


@dataclass(frozen=True, kw_only=True)
class SubmissionSettings:
    """
    Limits on the mail that users submit.

    senders: Which sender addresses (MAIL FROM) a user may use: addresses that lead to their own
        account (own), or any (any).
    foreign_from: What happens to a submitted message if an address in its From field does not lead
        to the user's own account: it is accepted (off), accepted and logged (log), or refused
        (refuse).
    """

    senders: str = key(kinds.one_of("own", "any"), "own")
    foreign_from: str = key(kinds.one_of("off", "log", "refuse"), "log")


@dataclass(frozen=True, kw_only=True)
class QuotaSettings:
    """
    The quota of accounts for which neither the account nor its domain sets one (`postoffice account
    set`, `postoffice domain set`); see docs/quotas.rst.

    bytes: Octets of all messages together; 0: no limit.
    messages: Number of messages; 0: no limit.
    postmaster: Octets of the postmaster's maildrop; the quotas of that account and its domain do
        not apply. Mail to the postmaster is always accepted (RFC 5321 §4.5.1), and beyond this
        limit the oldest messages are removed (make-room); 0: no limit.
    over: What happens to a message that does not fit the quota: it is rejected for good (reject,
        552), or its sender is told to try again later (defer, 452), or the oldest messages are
        removed until it fits, fetched ones first (make-room).
    warnings: At which usage, in percent of the quota, the owner gets a warning by mail, once a day
        at most. An empty list, [], turns warnings off.
    warning_text: A file with the text of the warning mail, instead of the built-in text: the
        subject, an empty line, and the body, with ${address}, ${percent}, ${used} and ${limit}. The
        path is relative to the folder of this file.
    """

    bytes: int = key(kinds.SIZE, "1 GiB")
    messages: int = key(kinds.WHOLE, 0)
    postmaster: int = key(kinds.SIZE, "1 GiB")
    over: str = key(kinds.one_of(*OVER), "reject")
    warnings: tuple[int, ...] = key(kinds.list_of(kinds.PERCENT), (80, 95))
    warning_text: str | None = key(kinds.PATH, None, "quota-warning.txt")


@dataclass(frozen=True, kw_only=True)
class RetentionSettings:
    """
    How long mail is kept, for accounts where neither the account nor its domain sets it
    (`postoffice account set`, `postoffice domain set`); see docs/retention.rst. POP3 clients are
    told this time (EXPIRE).

    keep: How long a message is kept after it arrived, whether fetched or not, such as 90 days; 0:
        forever.
    keep_collected: How long a message is kept after it was collected, which means: sent whole to a
        POP3 client that then ended its session with QUIT; 0: forever.
    delete_on_collect: Whether a message is deleted as soon as it is collected.
    devices: Which devices (app passwords) of the account must have collected a message before it
        counts as collected: any one of them, or all of them.
    """

    keep: float = key(kinds.DAYS, 0)
    keep_collected: float = key(kinds.DAYS, 0)
    delete_on_collect: bool = key(kinds.TRUTH, False)
    devices: str = key(kinds.one_of(*DEVICES), "any")


@dataclass(frozen=True, kw_only=True)
class POP3Settings:
    """
    POP3 settings of accounts for which neither the account nor its domain sets them.

    login_delay: The least time between two logins of one account, such as 5 min (LOGIN-DELAY).
    in_use: What happens to a login while another session holds the maildrop: it is refused
        (refuse), or waits until the other session ends (wait), or takes over from a session that is
        idle or half dead, which can then delete nothing (take-over); see docs/in-use.rst.
    wait: How long such a login waits (`in_use: wait`).
    """

    login_delay: float = key(kinds.DURATION, 0)
    in_use: str = key(kinds.one_of(*IN_USE), "refuse")
    wait: float = key(kinds.DURATION, 30)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    Limits for each client.

    message_size: Octets of one message (RFC 1870).
    recipients: Recipients of one message; beyond it the sending server is told to send the message
        again to the rest.
    text_line: Octets of one line of a message, without its line end. Real mail has longer lines
        than the 998 octets of RFC 5321; a message with a line beyond this limit is refused.
    errors: Wrong commands in one session, including unknown recipients, before the session is
        closed.
    tarpit: Seconds by which the reply to each wrong command is delayed, once half of `errors` are
        used up.
    commands: Commands between two messages that do not lead to one (NOOP, RSET and the like),
        before an SMTP session is closed. A session may also get this many temporary errors, and
        `recipients` more. Also the number of commands in a POP3 session before login.
    logins: Failed logins in one session, before the session is closed.
    wrong_passwords: How many wrong passwords of one client (an IPv4 address or an IPv6 /64) are
        checked. Further logins of this client are delayed, and then refused with a temporary error.
        Clients on this machine have no limit. See docs/security.rst.
    wrong_passwords_per_account: The same limit for all wrong passwords of one account. The owner
        can still log in from addresses of recent successful logins.
    unknown_recipients: Unknown recipients of one client (an IPv4 address or an IPv6 /64) in an
        hour; after that, each further one ends the session. Clients on this machine have no limit.
    greeting_delay: Seconds by which the greeting to SMTP clients from other machines is delayed. A
        client that speaks before the greeting is disconnected; spam software often does. 5 catches
        most of it.
    handshake: Seconds that a client has before its first command, for the TLS handshake and for the
        PROXY header of a load balancer.
    text_pace: The least speed, in octets a second, at which a client must send the text of a
        message, on average over five minutes.
    connections: Simultaneous connections, of all services together. Half of them are reserved, in
        equal parts for each service. The daemon lowers this limit at startup, with a warning, if
        the system allows too few open files.
    connections_per_client: Simultaneous connections from one IPv4 address or one IPv6 /64; four
        times as many from one IPv6 /48.
    """

    message_size: int = key(kinds.at_least("64 KiB", kinds.SIZE), "50 MiB")
    recipients: int = key(kinds.at_least(100, kinds.WHOLE), 1000)
    text_line: int = key(kinds.at_least(998, kinds.SIZE), "64 KiB")
    errors: int = key(kinds.POSITIVE, 20)
    tarpit: float = key(kinds.DURATION, 1)
    commands: int = key(kinds.POSITIVE, 200)
    logins: int = key(kinds.POSITIVE, 5)
    wrong_passwords: tuple[int, float] = key(kinds.RATE, "10/min")
    wrong_passwords_per_account: tuple[int, float] = key(kinds.RATE, "100/h")
    unknown_recipients: int = key(kinds.POSITIVE, 100)
    greeting_delay: float = key(kinds.DURATION, 0)
    handshake: float = key(kinds.DURATION, 30)
    text_pace: int = key(kinds.POSITIVE, 100)
    connections: int = key(kinds.POSITIVE, 10000)
    connections_per_client: int = key(kinds.POSITIVE, 100)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """
    The log; see docs/log.rst. `postoffice reload` changes it.

    format: Lines for people (text), or one JSON object a line, with the same fields (json).
    level: Events below this level are not written. `postoffice trace` needs those of level info.
    """

    format: str = key(kinds.one_of("text", "json"), "text")
    level: str = key(kinds.one_of("debug", "info", "warn", "error", "critical"), "info")


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """
    Metrics for Prometheus, and pages that tell whether the post office lives and is ready. They
    need the package prometheus-client; see docs/metrics.rst. Without this section there are none.

    listen: Where /metrics, /live and /ready are served, by HTTP and to everybody who can connect.
    """

    listen: str = key(kinds.ENDPOINT, "tcp:9725:interface=127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What postoffice.yaml says; paths are absolute.

    hostname: The name of this machine in the mail system. It appears in greetings and in the
        Received fields of all mail that the post office receives.
    state: The folder for all data of the post office, relative to the folder of this file. It is
        created if it is missing.
    user: The user to run as. If root starts it, the post office switches to this user as soon as
        its ports are open, before it touches the state folder; the `postoffice` command switches
        too. The state folder must belong to this user. Without this key a daemon started by root
        stays root, with a warning.
    postmaster: The account that gets the mail for <Postmaster>, and for postmaster@ in every local
        domain (RFC 5321 §4.5.1).
    accounts: Account directories, in the order in which they are asked. The `postoffice` command
        edits the first one that it can write to.
    checkers: Further login checkers, for logins that no directory accepts, in the order in which
        they are asked: twisted.cred checkers, in the form of twistd's --auth
        (file:/etc/mail.passwd). A user whom a checker accepts must also have an account here; see
        docs/pop3.rst.
    store: The mail store.
    policies: Policies that decide whether to accept mail, in the order in which they are asked; see
        docs/policies.rst.
    """

    hostname: str = key(kinds.HOSTNAME, kinds.REQUIRED, "mail.example.net")
    state: str = key(kinds.PATH, "/var/lib/postoffice")
    user: str | None = key(USER, None, "postoffice")
    postmaster: Address = key(kinds.ADDRESS, kinds.REQUIRED, "postmaster@example.net")
    listeners: Listeners = section(Listeners)
    tls: TLSSettings = section(TLSSettings)
    submission: SubmissionSettings = section(SubmissionSettings)
    accounts: tuple[ChosenPlugin[IAccountDirectory], ...] = key(
        plugins(plugin(IDirectoryMaker, "sqlite"), required=True), ({"kind": "sqlite"},)
    )
    checkers: tuple[str, ...] = key(kinds.list_of(kinds.TEXT), ())
    store: ChosenPlugin[IMailStore] = key(plugin(IStoreMaker, "maildir"), {"kind": "maildir"})
    quota: QuotaSettings = section(QuotaSettings)
    retention: RetentionSettings = section(RetentionSettings)
    pop3: POP3Settings = section(POP3Settings)
    policies: tuple[ChosenPlugin[IPolicy], ...] = key(
        plugins(plugin(IPolicyMaker, "helo", COMMON)), ()
    )
    limits: Limits = section(Limits)
    outbound: OutboundSettings | None = optional_section(OutboundSettings)
    log: LogSettings = section(LogSettings)
    web: WebSettings | None = optional_section(WebSettings)
    metrics: MetricsSettings | None = optional_section(MetricsSettings)

    #: Not keys: the file that was read; whether there is none; the text of the mail that warns of
    #: a full maildrop ("": the built-in text).
    source: Source = field(compare=False)
    first_run: bool = False
    warning_text: str = ""

    @property
    def way_out(self) -> bool:
        """Whether mail can be sent to other domains."""
        return self.outbound is not None

    @property
    def default_quota(self) -> Quota:
        """The quota of accounts for which nothing else sets one."""
        return Quota(self.quota.bytes, self.quota.messages, self.quota.over)

    @property
    def postmaster_quota(self) -> Quota:
        octets = self.quota.postmaster
        return Quota(octets, 0, "make-room" if octets else "reject")

    @property
    def warnings(self) -> tuple[int, ...]:
        """At which percentages of a quota its owner is warned, lowest first."""
        return tuple(sorted(set(self.quota.warnings)))

    @property
    def mail_policy(self) -> MailPolicy:
        """How mail is kept and served for accounts for which nothing else says it."""
        return MailPolicy(**vars(self.retention), **vars(self.pop3))
