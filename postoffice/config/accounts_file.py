"""The file of a directory of kind yaml: domains, accounts and aliases, kept by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import NoReturn, TypeVar

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from postoffice.accounts.address_checks import (
    AddressRefused,
    check_alias,
    check_domain,
    check_forward,
)
from postoffice.accounts.address_resolution import Asking, run
from postoffice.accounts.file_directory import FileContents
from postoffice.accounts.password_schemes import UnusableHash, password_fields
from postoffice.config.reader import Reader
from postoffice.config.schema import key, keys_of, section_of
from postoffice.config.settings import OVER
from postoffice.config.source import (
    ConfigurationError,
    Source,
    compose,
    found,
    is_nothing,
    line_of,
    text_of,
)
from postoffice.model import config_values as kinds
from postoffice.model.address import STATES, Account, Address, NotAnAddress, Quota, normal_domain
from postoffice.model.alias import FORWARD, KINDS, SEPARATORS, Alias, Domain, Found
from postoffice.model.config_values import Key
from postoffice.model.mail_policy import DEVICES, IN_USE, MailPolicy


def _network(value: object) -> str:
    return "local" if value == "local" else str(kinds.NETWORK.read(value))


@dataclass(frozen=True, kw_only=True)
class QuotaKeys:
    """
    A quota.

    bytes: Octets of all messages together; 0: no limit.
    messages: Number of messages; 0: no limit.
    over: What happens to a message that does not fit.
    """

    bytes: int | None = key(kinds.SIZE, None)
    messages: int | None = key(kinds.WHOLE, None)
    over: str | None = key(kinds.one_of(*OVER), None)


@dataclass(frozen=True, kw_only=True)
class MailKeys:
    """
    What both domains and accounts can set; the keys are those of the configuration.

    quota: A size, or a mapping of bytes, messages and over.
    """

    quota: QuotaKeys = key(section_of(QuotaKeys, "bytes"), {})
    keep: float | None = key(kinds.DAYS, None)
    keep_collected: float | None = key(kinds.DAYS, None)
    delete_on_collect: bool | None = key(kinds.TRUTH, None)
    devices: str | None = key(kinds.one_of(*DEVICES), None)
    login_delay: float | None = key(kinds.DURATION, None)
    in_use: str | None = key(kinds.one_of(*IN_USE), None)
    wait: float | None = key(kinds.DURATION, None)

    @property
    def limits(self) -> Quota:
        return Quota(self.quota.bytes, self.quota.messages, self.quota.over)

    @property
    def policy(self) -> MailPolicy:
        return MailPolicy(**{one.name: getattr(self, one.name) for one in fields(MailPolicy)})


@dataclass(frozen=True, kw_only=True)
class DomainKeys(MailKeys):
    """
    A local domain.

    same_as: The domain that this one is the same as.
    separators: The characters that separate a name from its tag.
    catch_all: Where mail for addresses that do not exist goes.
    uncaught: Names that the catch-all does not catch.
    """

    same_as: str | None = key(kinds.HOSTNAME, None)
    separators: str = key(kinds.TEXT, SEPARATORS)
    catch_all: tuple[Address, ...] = key(kinds.list_of(kinds.ADDRESS), ())
    uncaught: tuple[str, ...] = key(kinds.list_of(kinds.TEXT), ())

    def domain(self, name: str) -> Domain:
        uncaught = frozenset(Address(one, "").normal for one in self.uncaught)
        return Domain(name, self.same_as or "", self.separators, self.catch_all, uncaught)


@dataclass(frozen=True, kw_only=True)
class AccountKeys(MailKeys):
    """
    An account.

    password: A hash of its password.
    shared_secret: A secret in clear, for CRAM-MD5 and APOP.
    state: Its state.
    networks: From where it can log in.
    forward: Where its mail goes.
    keep_copy: Whether mail that is forwarded is kept, too.
    maildrop: The name that it had first.
    """

    password: str | None = key(kinds.SECRET, None)
    shared_secret: str | None = key(kinds.SECRET, None)
    state: str = key(kinds.one_of(*STATES), STATES[0])
    networks: tuple[str, ...] = key(
        kinds.list_of(kinds.Kind("an IP address, a network, or local", _network)), ()
    )
    forward: tuple[Address, ...] = key(kinds.list_of(kinds.ADDRESS), ())
    keep_copy: bool = key(kinds.TRUTH, True)
    maildrop: Address | None = key(kinds.ADDRESS, None)

    def account(self, name: str, domain: MailKeys) -> Account:
        """The account; its password is not read yet."""
        return Account(
            name,
            self.maildrop.normal if self.maildrop else name,
            shared=self.shared_secret,
            quota=self.limits.or_else(domain.limits),
            mail_policy=self.policy.or_else(domain.policy),
            state=self.state,
            forward=self.forward,
            keep_copy=self.keep_copy,
            networks=self.networks,
        )


@dataclass(frozen=True, kw_only=True)
class AliasKeys:
    """
    An alias.

    targets: Where its mail goes.
    kind: What happens to its mail.
    words: The words of the refusal.
    send: Whether each account among the targets can send as this address.
    """

    targets: tuple[Address, ...] = key(kinds.list_of(kinds.ADDRESS), ())
    kind: str = key(kinds.one_of(*KINDS), FORWARD)
    words: str | None = key(kinds.TEXT, None)
    send: bool = key(kinds.TRUTH, False)


Keys = TypeVar("Keys", DomainKeys, AccountKeys, AliasKeys)
_SECTIONS = tuple(Key(name, kinds.TEXT, None, "") for name in ("domains", "accounts", "aliases"))
_MAP, _STR = "tag:yaml.org,2002:map", "tag:yaml.org,2002:str"


def parse(path: str, octets: bytes) -> FileContents:
    """Read such a file.  Raises ConfigurationError, with all that is wrong."""
    source = Source(path)
    node = compose(text_of(octets, source), source, "empty; expected domains, accounts and aliases")
    if node is not None:
        contents = _File(source).contents(node)
    if source.problems:
        raise ConfigurationError(source.problems)
    return contents


class _File:
    """Reads one file; what is wrong goes into ``source.problems``."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reader = Reader(source, "/", _no_plugins)

    def contents(self, node: MappingNode) -> FileContents:
        nodes = self._reader.nodes(node, _SECTIONS, "")
        domains = self._read(nodes.get("domains"), "domains", normal_domain, DomainKeys)
        accounts = self._read(nodes.get("accounts"), "accounts", _normal, AccountKeys)
        aliases = self._read(nodes.get("aliases"), "aliases", _normal, AliasKeys)
        for section, names in (("accounts", accounts), ("aliases", aliases)):
            for name in names:
                self._check_name(section, name, domains, accounts)
        if self._source.problems:
            return FileContents({}, {})
        entries: dict[str, Account | Alias] = {}
        for name, one in accounts.items():
            entries[name] = self._account(name, one, domains[_domain(name)])
        for name, alias in aliases.items():
            entries[name] = Alias(name, alias.targets, alias.kind, alias.words or "", alias.send)
        contents = FileContents({name: one.domain(name) for name, one in domains.items()}, entries)
        self._check_maildrops(entries)
        self._check_targets(contents)
        return contents

    def _read(
        self, node: Node | None, where: str, normal: Callable[[str], str], keys: Callable[..., Keys]
    ) -> dict[str, Keys]:
        """Return the settings in a section, by their names in normal form."""
        read: dict[str, Keys] = {}
        if node is None or is_nothing(node):
            return read
        if not isinstance(node, MappingNode):
            self._source.complain(where, f"found {found(node)}; expected a mapping", line_of(node))
            return read
        for name_node, value in node.value:
            line = line_of(name_node)
            try:
                name = normal(str(name_node.value))
            except NotAnAddress as why:
                self._source.complain(where, str(why), line)
                continue
            key = f"{where}.{name}"
            if name in read:
                first = self._source.lines[key]
                self._source.complain(key, f"given twice, first in line {first}", line)
                continue
            self._source.lines[key] = line
            mapping = _as_mapping(value)
            if mapping is None:
                names = ", ".join(one.name for one in keys_of(keys))
                self._source.complain(key, f"expected a mapping of {names}", line)
                mapping = MappingNode(_MAP, [])
            read[name] = keys(**self._reader.mapping(mapping, keys_of(keys), key))
        return read

    def _check_name(
        self,
        section: str,
        name: str,
        domains: Mapping[str, DomainKeys],
        accounts: Mapping[str, AccountKeys],
    ) -> None:
        key = f"{section}.{name}"
        if _domain(name) not in domains:
            self._source.complain(key, f"{_domain(name)} is not among the domains: of this file")
        if section == "aliases" and name in accounts:
            line = self._source.lines[f"accounts.{name}"]
            self._source.complain(key, f"an account has this name, in line {line}")

    def _account(self, name: str, keys: AccountKeys, domain: DomainKeys) -> Account:
        account = keys.account(name, domain)
        if keys.password is None:
            return account
        try:
            said = password_fields(keys.password)
        except UnusableHash as why:
            key = f"accounts.{name}.password"
            self._source.complain(key, f"the hash cannot be used: {why}")
            return account
        return replace(account, **said | ({"shared": account.shared} if account.shared else {}))

    def _check_maildrops(self, entries: Mapping[str, Account | Alias]) -> None:
        """No two accounts have one maildrop."""
        owners: dict[str, str] = {}
        for name, one in entries.items():
            if isinstance(one, Account):
                owner = owners.setdefault(one.maildrop, name)
                if owner != name:
                    key = f"accounts.{name}.maildrop"
                    self._source.complain(key, f"{one.maildrop} is the maildrop of {owner}")

    def _check_targets(self, contents: FileContents) -> None:
        """
        Check what ``postoffice`` checks when it saves.

        Other directories may have the addresses that this file does not.
        """

        def look_up(name: str) -> Found:
            entry = contents.entries.get(name)
            if entry is None and not name.startswith(("@", "*@")):
                entry = Account(name, name)
            return Found(contents.domains.get(_domain(name)), entry)

        def check(key: str, asking: Asking[None]) -> None:
            try:
                run(asking, look_up)
            except AddressRefused as why:
                self._source.complain(key, str(why))

        for name, domain in contents.domains.items():
            check(f"domains.{name}", check_domain(domain, "", way_out=True))
        for name, one in contents.entries.items():
            if isinstance(one, Alias):
                check(f"aliases.{name}", check_alias(one, "", way_out=True))
            elif one.forward:
                check(f"accounts.{name}.forward", check_forward(one, "", way_out=True))


def _as_mapping(node: Node) -> MappingNode | None:
    """Return the value of a name, as a mapping; a list is that of the targets."""
    if isinstance(node, MappingNode):
        return node
    if is_nothing(node):
        return MappingNode(_MAP, [], node.start_mark)
    if isinstance(node, SequenceNode):
        return MappingNode(_MAP, [(ScalarNode(_STR, "targets", node.start_mark), node)])
    return None


def _normal(text: str) -> str:
    return Address.parse(text).normal


def _domain(name: str) -> str:
    return name.rpartition("@")[2]


def _no_plugins(_: object, kind: str) -> NoReturn:
    raise LookupError(f"there are no plugins here: {kind}")
