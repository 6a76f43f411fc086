"""The makers of our own stores, directories and policies; ``make()`` imports their code."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from postoffice.accounts import circuit_breaker
from postoffice.interfaces import (
    IAccountDirectory,
    IDirectoryMaker,
    IMailStore,
    IPolicy,
    IPolicyMaker,
    IStoreMaker,
    PluginContext,
)
from postoffice.model.config_values import (
    DATE,
    DURATION,
    HOSTNAME,
    NETWORK,
    PATH,
    POSITIVE,
    RATE,
    REQUIRED,
    SIZE,
    TEXT,
    TRUTH,
    Key,
    Kind,
    list_of,
    one_of,
)
from postoffice.model.errors import SettingError
from postoffice.policy.common import services


@implementer(IPlugin, IStoreMaker)
class MaildirMaker:
    """``kind: maildir``."""

    kind = "maildir"
    keys = (
        Key("path", PATH, "maildrops", "The folder of all maildrops, relative to `state`."),
        Key(
            "durability",
            one_of("journal", "files"),
            None,
            "How a message is made durable before it is accepted: by a journal that is synced for "
            "many messages at once (journal), or by syncing each file (files). If absent: the "
            "journal on file systems that are known to honour a sync (ext4, XFS), and files on "
            "others.",
            "journal",
        ),
        Key(
            "undelete",
            DURATION,
            "7 days",
            "How long deleted mail can be restored (`postoffice maildrop undelete`); it does not "
            "count against quotas. 0: deleted mail is gone at once.",
        ),
        Key(
            "undelete_size",
            SIZE,
            None,
            "How much deleted mail is kept for one maildrop; beyond it, the mail that was deleted "
            "first is gone at once. Each message counts as what it takes on the disk, a multiple "
            "of 4 KiB. If absent: as much as the maildrop's quota, at least 1 MiB, and 1 GiB for "
            "a maildrop without a quota; 0: no limit.",
            "1 GiB",
        ),
        Key(
            "free_space",
            SIZE,
            "100 MiB",
            "If less than this is free on the disk, mail is refused with a temporary error (452 "
            "4.3.1), while users can still fetch and delete mail. Give at least twice "
            "limits.message_size; 0: no check.",
        ),
        Key(
            "incoming",
            SIZE,
            "1 GiB",
            "Octets of all messages together that are being received at one time; a message "
            "beyond it gets a temporary error (452 4.3.1), while others go on. One client (an "
            "IPv4 address or an IPv6 /64) may use a quarter of it, a client on this machine all "
            "of it. Give at least ten times limits.message_size; 0: no limit.",
        ),
    )

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IMailStore:
        from postoffice.store.maildir_store import MaildirStore

        return MaildirStore(
            options["path"],
            context.executor,
            hostname=context.hostname,
            clock=context.reactor,
            durability=options["durability"] or "",
            undelete=options["undelete"],
            undelete_size=options["undelete_size"],
            free_space=options["free_space"],
            incoming=options["incoming"],
            levels=context.warnings,
            letter=context.warning_text,
            child_process=context.child_process,
        )


@implementer(IPlugin, IStoreMaker)
class MemoryMaker:
    """``kind: memory``: for tests and trials; all mail is lost when the daemon stops."""

    kind = "memory"
    keys = ()

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IMailStore:
        from postoffice.store.memory import MemoryStore

        return MemoryStore()


@implementer(IPlugin, IDirectoryMaker)
class SQLiteMaker:
    """``kind: sqlite``: the database that the ``postoffice`` command edits."""

    kind = "sqlite"
    keys = (
        Key("path", PATH, "accounts.db", "The SQLite database of accounts, relative to `state`."),
        Key(
            "key_file",
            PATH,
            "accounts.key",
            "The file with the key that encrypts shared secrets (CRAM-MD5, APOP) in that "
            "database. It is created when it is first needed. Keep a copy of it, apart from "
            "copies of the database.",
        ),
    )

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IAccountDirectory:
        from postoffice.accounts.sqlite_directory import SQLiteDirectory

        return SQLiteDirectory(options["path"], context.executor, options["key_file"])


@implementer(IPlugin, IDirectoryMaker)
class PasswdFileMaker:
    """``kind: passwd-file``: a file in the format of Dovecot's passwd-file."""

    kind = "passwd-file"
    keys = (
        Key(
            "path",
            PATH,
            REQUIRED,
            "The file, relative to `state`. It is read again when it changes; a version with "
            "mistakes is logged, and not used.",
            "/etc/postoffice/passwd",
        ),
        Key(
            "domain",
            HOSTNAME,
            None,
            "The domain of users that are written without one.",
            "example.net",
        ),
        Key(
            "scheme",
            TEXT,
            "CRYPT",
            "The scheme of passwords that are written without {SCHEME}: docs/hashes.rst.",
        ),
    )

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IAccountDirectory:
        from postoffice.accounts.file_directory import FileDirectory
        from postoffice.accounts.passwd_file import PasswdFile

        file = PasswdFile(options["scheme"].strip("{}").upper(), options["domain"] or "")
        return FileDirectory(options["path"], file.parse, context.executor)


@implementer(IPlugin, IDirectoryMaker)
class YAMLMaker:
    """``kind: yaml``: a file that is kept by hand, with aliases."""

    kind = "yaml"
    keys = (
        Key(
            "path",
            PATH,
            REQUIRED,
            "The file, relative to `state`. It is read again when it changes; a version with "
            "mistakes is logged, and not used. See docs/directories.rst.",
            "/etc/postoffice/accounts.yaml",
        ),
    )

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IAccountDirectory:
        from postoffice.accounts.file_directory import FileDirectory
        from postoffice.config.accounts_file import parse

        return FileDirectory(options["path"], parse, context.executor)


def _conninfo(value: Any) -> str:
    """``dbname=mail host=/run/postgresql``, or ``postgresql://…``; libpq checks the rest."""
    text = str(TEXT.read(value)).strip()
    if "=" not in text and "://" not in text:
        raise ValueError
    return text


CONNINFO = Kind(
    "what libpq connects by, such as dbname=mail host=/run/postgresql user=postoffice", _conninfo
)


@implementer(IPlugin, IDirectoryMaker)
class PostgreSQLMaker:
    """``kind: postgresql``: our own tables in a PostgreSQL database, or any, by your queries."""

    kind = "postgresql"
    keys = (
        Key(
            "connection",
            CONNINFO,
            REQUIRED,
            "The database, as libpq connects to it. Keep a password out of this file: libpq "
            "reads it from the file that `passfile=` names.",
            "dbname=mail host=/run/postgresql user=postoffice",
        ),
        Key(
            "find",
            TEXT,
            None,
            "The query that finds an account, if the tables are not ours: it returns a column "
            "password, and may return maildrop, quota, quota_messages, state, forward and "
            "keep_copy. Without it, the tables are those of `postoffice directory "
            "create-schema`.",
            "SELECT password FROM mailbox WHERE username = %{user}",
        ),
        Key(
            "domain",
            TEXT,
            None,
            "The query that returns a row if a domain is local; needed if `find` is given. It may "
            "return same_as, separators and catch_all.",
            "SELECT 1 AS local FROM domain WHERE domain = %{user|domain}",
        ),
        Key(
            "alias",
            TEXT,
            None,
            "The query that returns the targets of an alias, in the column target.",
            "SELECT goto AS target FROM alias WHERE address = %{user}",
        ),
        Key(
            "iterate",
            TEXT,
            None,
            "The query that returns all accounts: the columns of `find`, and user, the address. "
            "Without it the accounts cannot be listed.",
            "SELECT username AS user, password FROM mailbox",
        ),
        Key(
            "rehash",
            TEXT,
            None,
            "The statement that replaces an outdated password hash after a login: %{new} in "
            "place of %{old}, with Dovecot's {ARGON2ID} before it. Without it nothing is changed.",
            "UPDATE mailbox SET password = %{new} WHERE username = %{user} AND password = %{old}",
        ),
        Key(
            "key_file",
            PATH,
            "accounts.key",
            "The file with the key that encrypts shared secrets in our own tables.",
        ),
        *circuit_breaker.KEYS,
    )

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IAccountDirectory:
        try:
            from postoffice.accounts import query_directory as queries
            from postoffice.accounts.postgresql_directory import PostgreSQLDirectory
            from postoffice.accounts.sealed_secrets import Seal
        except ImportError as error:
            why = f"psycopg is not installed: pip install 'postoffice[postgresql]' ({error})"
            raise SettingError("kind", why) from error

        how = {"timeout": options["timeout"], "stale": options["stale"]}
        server = (options["connection"], context.network, context.reactor)
        given = [name for name in ("find", "domain", "alias", "iterate", "rehash") if options[name]]
        if not given:
            return PostgreSQLDirectory(*server, seal=Seal(options["key_file"]), **how)
        for name in ("find", "domain"):
            if name not in given:
                raise SettingError(name, f"it is needed, as {given[0]} is given")
        asked = {name: queries.Query.read(name, options[name]) for name in given}
        return queries.QueryDirectory(*server, asked, **how)


def _uri(value: Any) -> str:
    """``ldaps://ldap.example.net``."""
    text = str(TEXT.read(value)).strip()
    if not re.match(r"(ldap|ldaps|ldapi)://\S*\Z", text):
        raise ValueError
    return text


LDAP_URI = Kind("an LDAP URI, such as ldaps://ldap.example.net", _uri)


@implementer(IPlugin, IDirectoryMaker)
class LDAPMaker:
    """``kind: ldap``: accounts in an LDAP server, such as OpenLDAP or Active Directory."""

    kind = "ldap"
    keys = (
        Key("uri", list_of(LDAP_URI), REQUIRED, "The servers, asked in this order.",
            "[ldaps://ldap.example.net]"),
        Key("domains", list_of(HOSTNAME), REQUIRED, "The local domains that it has accounts of.",
            "[example.net]"),
        Key("base", TEXT, REQUIRED, "The entry below which accounts are searched.",
            '"ou=people,dc=example,dc=net"'),
        Key(
            "filter",
            TEXT,
            "(&(objectClass=inetOrgPerson)(mail=%{user}))",
            "The filter that finds the entry of an address: %{user} is the address, "
            "%{user|username} and %{user|domain} its parts. If there are `alias_attributes`, it "
            "must find those as well.",
        ),
        Key("bind_dn", TEXT, None, "The entry that searches log in as, if not as anonymous."),
        Key("bind_password_file", PATH, None, "The file with its password, in one line."),
        Key("starttls", TRUTH, False, "Begin TLS on ldap:// before anything else."),
        Key("ca_file", PATH, None, "The certificates that the server's must be signed by, if not "
            "those that the machine trusts."),
        Key("address_attribute", TEXT, "mail", "The attribute with the account's address, which "
            "has one value; none: whatever the filter finds is the account."),
        Key("alias_attributes", list_of(TEXT), (), "Attributes with further addresses, which "
            "become aliases of the account."),
        Key("password_attribute", TEXT, None, "The attribute with a password hash. Without it the "
            "server verifies passwords: a bind as the user, on a connection of its own.",
            "userPassword"),
        Key("maildrop_attribute", TEXT, None, "The attribute with the name of the maildrop, in the "
            "form of an address, if it is not the account's address."),
        Key("quota_attribute", TEXT, None, "The attribute with the quota, in octets or such as "
            "1 GiB."),
        Key("iterate_filter", TEXT, None, "The filter that finds all accounts; it has no "
            "variables. Without it the accounts cannot be listed.",
            "(&(objectClass=inetOrgPerson)(mail=*))"),
        *circuit_breaker.KEYS,
    )  # fmt: skip

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IAccountDirectory:
        try:
            from postoffice.accounts.ldap_connections import LDAPServer
            from postoffice.accounts.ldap_directory import LDAPDirectory, LDAPSearch
        except ImportError as error:
            why = f"python-ldap is not installed: pip install 'postoffice[ldap]' ({error})"
            raise SettingError("kind", why) from error

        password = ""
        if options["bind_password_file"]:
            try:
                with open(options["bind_password_file"], encoding="utf-8") as file:
                    password = file.read().removesuffix("\n")
            except (OSError, ValueError) as error:
                raise SettingError("bind_password_file", f"it cannot be read: {error}") from error
        if options["bind_dn"] and not password:
            raise SettingError("bind_password_file", "bind_dn needs a password: without one the "
                               "server takes us for anonymous")  # fmt: skip
        if options["starttls"] and not all(uri.startswith("ldap://") for uri in options["uri"]):
            raise SettingError("starttls", "it is for ldap:// only; ldaps:// has TLS already")
        server = LDAPServer(
            options["uri"],
            options["timeout"],
            options["starttls"],
            options["ca_file"] or "",
            options["bind_dn"] or "",
            password,
        )
        if options["iterate_filter"] and options["address_attribute"] == "none":
            raise SettingError("iterate_filter", "it needs the addresses: set address_attribute")
        search = LDAPSearch(
            options["base"],
            options["filter"],
            "" if options["address_attribute"] == "none" else options["address_attribute"],
            options["alias_attributes"],
            options["password_attribute"] or "",
            options["maildrop_attribute"] or "",
            options["quota_attribute"] or "",
            options["iterate_filter"] or "",
        )
        domains = options["domains"]
        how = (server, context.network, context.reactor, search, domains)
        return LDAPDirectory(*how, stale=options["stale"])


@implementer(IPlugin, IDirectoryMaker)
class OldPOP3Maker:
    """``kind: pop3``: the POP3 server from which users move; it knows their passwords."""

    kind = "pop3"
    keys = (
        Key("host", HOSTNAME, REQUIRED, "The old server.", "old.example.net"),
        Key("port", POSITIVE, None, "Its port; if absent 995, or 110 with starttls and without "
            "TLS.", "995"),
        Key("domains", list_of(HOSTNAME), REQUIRED, "The domains whose users move. They are local "
            "in a directory that can be written to (`postoffice domain add`), which gets the "
            "accounts.", "[example.net]"),
        Key("until", DATE, REQUIRED, "From this day on (UTC) the old server is not asked any "
            "more.", "2027-03-01"),
        Key("login", TEXT, "%{user}", "The login there: %{user} is the address, %{user|username} "
            "and %{user|domain} its parts."),
        Key("import", TRUTH, False, "Import the mail there behind the first login of a user."),
        Key("starttls", TRUTH, False, "TLS begins by STLS."),
        Key("tls", one_of("verify", "none"), "verify", "verify: the certificate must fit the "
            "host. none: no TLS; only for a server on this machine."),
        Key("ca_file", PATH, None, "The certificates that the server's must be signed by, if not "
            "by one that the machine trusts."),
        Key("timeout", DURATION, 20, "Seconds that a login there may take."),
    )  # fmt: skip

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IAccountDirectory:
        from postoffice.accounts.old_server_directory import OldServerDirectory
        from postoffice.pop3.client_url import POP3Server

        starttls, clear = options["starttls"], options["tls"] == "none"
        if starttls and clear:
            raise SettingError("starttls", "it contradicts tls: none")
        server = POP3Server(
            host=options["host"],
            port=options["port"] or (110 if starttls or clear else 995),
            implicit=not (starttls or clear),
            tls=options["tls"],
            ca_file=options["ca_file"],
            connect_timeout=options["timeout"],
            reply_timeout=options["timeout"],
        )
        if clear and not server.loopback:
            raise SettingError("tls", "passwords are not sent in clear to another machine: the "
                               "old server needs TLS")  # fmt: skip
        if not options["domains"]:
            raise SettingError("domains", "give at least one domain")
        return OldServerDirectory(
            server,
            context.network,
            context.reactor,
            options["domains"],
            options["until"],
            login=options["login"],
            imports=options["import"],
            timeout=options["timeout"],
        )


def _zone(value: Any) -> tuple[str, frozenset[str]]:
    """``list.example``, or ``list.example=127.0.0.2,127.0.0.4``."""
    name, _, answers = str(value).partition("=")
    found = frozenset(word.strip() for word in answers.split(",") if word.strip())
    for answer in found:
        ipaddress.IPv4Address(answer)
    return str(HOSTNAME.read(name.strip())), found


def _resolver(value: Any) -> tuple[str, int]:
    """``192.0.2.53``, or ``192.0.2.53:5353``."""
    host, colon, port = str(value).rpartition(":")
    if not colon or "]" in port or host.count(":"):
        host, port = str(value), "53"
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


ZONE = Kind("a list's domain, such as list.example or list.example=127.0.0.2,127.0.0.4", _zone)
RESOLVER = Kind("a resolver's address, such as 192.0.2.53 or 192.0.2.53:5353", _resolver)


@implementer(IPlugin, IPolicyMaker)
class DNSBLMaker:
    """``kind: dnsbl``: DNS block lists."""

    kind = "dnsbl"
    keys = (
        Key(
            "zones",
            list_of(ZONE),
            REQUIRED,
            "The domains of the block lists; after a =, the answers that count, if not all do. "
            "Read their terms of use: many refuse queries from public resolvers.",
            "[list.example]",
        ),
        Key(
            "action",
            one_of("refuse", "tag"),
            "refuse",
            "What happens to mail from a listed client: it is refused (554), or gets a header "
            "field X-DNSBL.",
        ),
        Key("exempt", list_of(NETWORK), (), "Clients that are never looked up."),
        Key(
            "resolvers",
            list_of(RESOLVER),
            (),
            "The DNS resolvers to use; by default those in /etc/resolv.conf.",
        ),
    )

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IPolicy:
        from postoffice.dns.resolver import Resolver
        from postoffice.policy.dnsbl import DNSBLPolicy, Zone

        if not options["zones"]:
            raise SettingError("zones", "give at least one list")
        return DNSBLPolicy(
            [Zone(name, answers) for name, answers in options["zones"]],
            Resolver(context.reactor, options["resolvers"]),
            tag=options["action"] == "tag",
            exempt=options["exempt"],
        )


@implementer(IPlugin, IPolicyMaker)
class GreylistMaker:
    """``kind: greylist``: tells an unknown client to come back later."""

    kind = "greylist"
    keys = (
        Key("path", PATH, "greylist.db", "Its SQLite database, relative to `state`."),
        Key(
            "delay",
            DURATION,
            "5 min",
            "How long an unknown client must wait before it tries again.",
        ),
        Key("window", DURATION, "2 days", "How long it may take until it tries again."),
        Key(
            "lifetime", DURATION, "35 days", "How long a client is remembered after its last mail."
        ),
        Key(
            "known_after",
            POSITIVE,
            5,
            "A network (IPv4 /24, IPv6 /64) that has come back this many times is no longer "
            "delayed.",
        ),
    )

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IPolicy:
        from postoffice.policy.greylist import GreylistPolicy
        from postoffice.policy.greylist_db import GreylistTimes, Triplets

        names = ("delay", "window", "lifetime", "known_after")
        times = GreylistTimes(**{name: options[name] for name in names})
        if not times.delay < times.window:
            raise SettingError("window", "it must be longer than delay")
        return GreylistPolicy(Triplets(options["path"], times), context.executor, context.reactor)


@implementer(IPlugin, IPolicyMaker)
class HeloMaker:
    """``kind: helo``: refuses EHLO names that no honest server uses."""

    kind = "helo"
    keys = (
        Key("own_name", TRUTH, True, "Refuse a client that uses our own host name."),
        Key("bare_address", TRUTH, True, "Refuse an IP address that is not in brackets."),
        Key("no_name", TRUTH, True, "Refuse a name that is not a valid host name."),
        Key("literal", TRUTH, True, "Refuse an address in brackets that is not the client's own."),
        Key("no_dot", TRUTH, False, "Refuse a host name without a domain."),
    )

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IPolicy:
        from postoffice.policy.helo import CHECKS, HeloPolicy

        return HeloPolicy(context.hostname, [name for name in CHECKS if options[name]])


@implementer(IPlugin, IPolicyMaker)
class RateMaker:
    """``kind: rate``: limits how many messages and recipients a client or user may send."""

    kind = "rate"
    keys = (
        services("smtp", "submission", "submissions"),
        Key(
            "client",
            RATE,
            None,
            "Messages from one client (an IPv4 address, an IPv6 /64).",
            "100/h",
        ),
        Key("sender", RATE, None, "Messages from one sender address.", "50/h"),
        Key("account", RATE, None, "Messages from one account that has logged in.", "200/h"),
        Key("client_recipients", RATE, None, "Recipients of messages from one client.", "500/h"),
        Key(
            "account_recipients", RATE, None, "Recipients of messages from one account.", "1000/day"
        ),
    )

    def make(self, options: Mapping[str, Any], context: PluginContext) -> IPolicy:
        from postoffice.policy.rate_limit import KEYS, Rate, RatePolicy

        rates = {key: Rate(*options[key]) for key in KEYS if options[key] is not None}
        if not rates:
            raise SettingError("", f"give at least one of {', '.join(KEYS)}")
        return RatePolicy(rates, context.reactor.seconds)


maildir = MaildirMaker()
memory = MemoryMaker()
sqlite = SQLiteMaker()
postgresql = PostgreSQLMaker()
ldap = LDAPMaker()
pop3 = OldPOP3Maker()
passwd_file = PasswdFileMaker()
yaml = YAMLMaker()
dnsbl = DNSBLMaker()
greylist = GreylistMaker()
helo = HeloMaker()
rate = RateMaker()
