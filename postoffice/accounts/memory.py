"""A directory in memory: for tests, first tries and embedding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace

from zope.interface import implementer

from postoffice.accounts.account_queries import check_empty, maildrop_names
from postoffice.accounts.address_resolution import catch_all_name
from postoffice.interfaces import IAccountRegister, IAccountSettings, IAddressRegister
from postoffice.model.address import NO_NOTE, Account, Address, Quota, StateNote
from postoffice.model.alias import Alias, Domain, Found
from postoffice.model.app_password import AppPassword
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy
from postoffice.moved import OldMembers


@implementer(IAccountRegister, IAccountSettings, IAddressRegister)
class MemoryDirectory(OldMembers):
    """Domains and accounts in dictionaries; they can be filled before ``start()``."""

    def __init__(self) -> None:
        self._domains: dict[str, tuple[Quota, MailPolicy]] = {}
        self._accounts: dict[str, Account] = {}
        self._devices: dict[str, dict[str, AppPassword]] = {}
        self._aliases: dict[str, Alias] = {}
        self._records: dict[str, Domain] = {}

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def find(self, name: str) -> Account | None:
        known = self._accounts.get(name)
        return None if known is None else self._completed(known)

    async def serves(self, domain: str) -> bool:
        return domain in self._domains

    async def app_passwords(self, name: str) -> Sequence[AppPassword]:
        return [device for _, device in sorted(self._devices.get(name, {}).items())]

    async def add_app_password(self, name: str, device: AppPassword) -> bool:
        if name not in self._accounts:
            raise LookupError(f"there is no account {name}")
        return self._devices.setdefault(name, {}).setdefault(device.name, device) is device

    async def remove_app_password(self, name: str, device: str) -> bool:
        return self._devices.get(name, {}).pop(device, None) is not None

    async def domains(self) -> list[str]:
        return sorted(self._domains)

    async def each_account(self, domain: str | None = None) -> AsyncIterator[Account]:
        for name in self._names(domain):
            if name in self._accounts:
                yield self._completed(self._accounts[name])

    def _names(self, domain: str | None) -> list[str]:
        return sorted(one for one in self._accounts if domain in (None, _domain(one)))

    async def add_domain(self, domain: str) -> bool:
        if domain in self._domains:
            return False
        self._domains[domain] = (Quota(), UNSPECIFIED)
        self._records[domain] = Domain(domain)
        return True

    async def remove_domain(self, domain: str) -> bool:
        if domain not in self._domains:
            return False
        check_empty(
            domain,
            accounts=len(self._names(domain)),
            aliases=len(await self.aliases(domain)),
            domains=sum(one.same_as == domain for one in self._records.values()),
        )
        del self._domains[domain]
        del self._records[domain]
        return True

    async def add(
        self, name: str, secret: str | None, scram: str | None = None, maildrop: str | None = None
    ) -> bool:
        self._check_domain(name)
        if name in self._accounts or name in self._aliases:
            return False
        maildrop = maildrop or await self.maildrop_for(name)
        self._accounts[name] = Account(name, maildrop, secret, scram)
        return True

    async def maildrop_for(self, name: str) -> str:
        taken = {one.maildrop for one in self._accounts.values()}
        return next(one for one in maildrop_names(name) if one not in taken)

    async def rename(self, name: str, new: str) -> bool:
        self._check_domain(new)
        if name not in self._accounts or new in self._accounts or new in self._aliases:
            return False
        self._accounts[new] = replace(self._accounts.pop(name), address=new)
        self._devices[new] = self._devices.pop(name, {})
        self._rename_targets(name, new)
        return True

    def _rename_targets(self, name: str, new: str) -> None:
        """Replace the target ``name`` by ``new`` everywhere."""
        address = Address(*new.rsplit("@", 1))

        def renamed(targets: tuple[Address, ...]) -> tuple[Address, ...]:
            return tuple(address if one.normal == name else one for one in targets)

        for key, alias in self._aliases.items():
            self._aliases[key] = replace(alias, targets=renamed(alias.targets))
        for key, account in self._accounts.items():
            self._accounts[key] = replace(account, forward=renamed(account.forward))
        for key, domain in self._records.items():
            self._records[key] = replace(domain, catch_all=renamed(domain.catch_all))

    def _check_domain(self, name: str) -> None:
        if _domain(name) not in self._domains:
            raise LookupError(f"{_domain(name)} is not a domain of ours")

    async def set_secret(self, name: str, secret: str | None, scram: str | None = None) -> bool:
        return self._change(name, lambda known: replace(known, secret=secret, scram=scram))

    async def keep_scram(self, name: str, secret: str, scram: str, new: str | None = None) -> bool:
        known = self._accounts.get(name)
        if known is None or known.secret != secret:
            return False
        return self._change(name, lambda one: replace(one, scram=scram, secret=new or secret))

    async def set_shared(self, name: str, shared: str | None) -> bool:
        return self._change(name, lambda known: replace(known, shared=shared))

    async def set_quota(self, name: str, quota: Quota) -> bool:
        return self._change(name, lambda known: replace(known, quota=quota))

    async def account_quota(self, name: str) -> Quota | None:
        known = self._accounts.get(name)
        return None if known is None else known.quota

    async def set_domain_quota(self, domain: str, quota: Quota) -> bool:
        known = self._domains.get(domain)
        if known is not None:
            self._domains[domain] = (quota, known[1])
        return known is not None

    async def domain_quota(self, domain: str) -> Quota | None:
        known = self._domains.get(domain)
        return None if known is None else known[0]

    async def set_mail_policy(self, name: str, mail_policy: MailPolicy) -> bool:
        return self._change(name, lambda known: replace(known, mail_policy=mail_policy))

    async def account_mail_policy(self, name: str) -> MailPolicy | None:
        known = self._accounts.get(name)
        return None if known is None else known.mail_policy

    async def set_domain_mail_policy(self, domain: str, mail_policy: MailPolicy) -> bool:
        known = self._domains.get(domain)
        if known is not None:
            self._domains[domain] = (known[0], mail_policy)
        return known is not None

    async def domain_mail_policy(self, domain: str) -> MailPolicy | None:
        known = self._domains.get(domain)
        return None if known is None else known[1]

    async def account_settings(self) -> frozenset[tuple[Quota, MailPolicy]]:
        completed = map(self._completed, self._accounts.values())
        return frozenset((one.quota, one.mail_policy) for one in completed)

    def _completed(self, account: Account) -> Account:
        """Complete an account's settings with those of its domain."""
        quota, mail_policy = self._domains[_domain(account.address)]
        return replace(
            account,
            quota=account.quota.or_else(quota),
            mail_policy=account.mail_policy.or_else(mail_policy),
        )

    def _change(self, name: str, change: Callable[[Account], Account]) -> bool:
        if name not in self._accounts:
            return False
        self._accounts[name] = change(self._accounts[name])
        return True

    async def set_state(self, name: str, state: str, note: StateNote = NO_NOTE) -> bool:
        return self._change(name, lambda known: replace(known, state=state, state_note=note))

    async def remove(self, name: str) -> bool:
        self._devices.pop(name, None)
        return self._accounts.pop(name, None) is not None

    # -- addresses -----------------------------------------------------------------

    def look_up(self, name: str) -> Found:
        account = self._accounts.get(name)
        entry = self._aliases.get(name) if account is None else self._completed(account)
        return Found(self._records.get(_domain(name)), entry)

    async def aliases(
        self, domain: str | None = None, after: str = "", most: int = 1000
    ) -> list[Alias]:
        names = sorted(
            name for name in self._aliases if name > after and domain in (None, _domain(name))
        )
        return [self._aliases[name] for name in names[:most]]

    async def add_alias(self, alias: Alias) -> bool:
        self._check_domain(alias.address)
        if alias.address in self._accounts or alias.address in self._aliases:
            return False
        self._aliases[alias.address] = alias
        return True

    async def set_alias(self, alias: Alias) -> bool:
        if alias.address not in self._aliases:
            return False
        self._aliases[alias.address] = alias
        return True

    async def remove_alias(self, name: str) -> bool:
        return self._aliases.pop(name, None) is not None

    async def set_forward(self, name: str, forward: Sequence[Address], keep_copy: bool) -> bool:
        targets = tuple(forward)
        return self._change(
            name, lambda known: replace(known, forward=targets, keep_copy=keep_copy)
        )

    async def set_domain(self, domain: Domain) -> bool:
        if domain.name not in self._records:
            return False
        self._records[domain.name] = domain
        return True

    async def pointing_to(self, name: str) -> list[str]:
        wanted = name.startswith("@")
        found = {f"@{one.name}" for one in self._records.values() if f"@{one.same_as}" == name}
        for key, targets in self._targets():
            for target in targets:
                normal = target.normal
                if name == (f"@{_domain(normal)}" if wanted else normal):
                    found.add(key)
        return sorted(found)

    def _targets(self) -> Iterator[tuple[str, tuple[Address, ...]]]:
        yield from ((one.address, one.targets) for one in self._aliases.values())
        yield from ((one.address, one.forward) for one in self._accounts.values())
        yield from ((catch_all_name(one.name), one.catch_all) for one in self._records.values())


def _domain(name: str) -> str:
    return name.rpartition("@")[2]
