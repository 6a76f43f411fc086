"""Directories of accounts and addresses, and registers: directories that can be changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from zope.interface import Interface

from postoffice.model.address import NO_NOTE, Account, Address, Quota, StateNote
from postoffice.model.alias import Alias, Domain, Found
from postoffice.model.app_password import AppPassword
from postoffice.model.mail_policy import MailPolicy


class IAccountDirectory(Interface):
    """Finds accounts and local domains. Names and domains are normalized (``Address.normal``)."""

    def start() -> Awaitable[None]:
        """Get ready; see ``IMailStore.start``."""

    def stop() -> Awaitable[None]:
        """Release all resources; no calls come after this one."""

    def find(name: str) -> Awaitable[Account | None]:
        """
        Return the account that receives mail for this address, as it is now, or None.

        Each value of ``quota`` and of ``mail_policy`` that the account does not set comes
        from its domain, if the domain sets it. Raises TemporaryFailure if the directory
        cannot answer.
        """

    def serves(domain: str) -> Awaitable[bool]:
        """Return whether the domain is a local one, as of now. Raises as ``find``."""


class IAccountSettings(Interface):
    """
    Optional interface of a directory whose accounts may have settings of their own.

    If a directory does not provide it, POP3 clients see the configured settings in CAPA
    before they log in.
    """

    def account_settings() -> Awaitable[Collection[tuple[Quota, MailPolicy]]]:
        """
        Return the ``quota`` and ``mail_policy`` of all accounts, as ``find`` does; each pair once.
        """


class IAppPasswords(Interface):
    """Optional interface of a directory: accounts have devices, each with an app password."""

    def app_passwords(name: str) -> Awaitable[Sequence[AppPassword]]:
        """
        Return all devices of an account, as they are now, sorted by name, also expired ones.

        Returns none if there is no such account. Raises as ``find``.
        """


class IPasswordVerifier(Interface):
    """Optional interface of a directory that verifies passwords itself, and gives no hash away."""

    def verify(account: Account, password: bytes) -> Awaitable[bool]:
        """
        Return whether this is the password of an account whose ``secret`` is None.

        An empty password is never right. Raises as ``find``.
        """


class IFirstLogins(Interface):
    """
    Optional interface of a directory: it asks the server from which users move about a login.

    It is used for names for which no directory has a password.  If the other server accepts the
    password, the account in our register gets it, and the other server is not asked again.
    """

    def asks_about(name: str) -> bool:
        """Return whether the other server may now be asked about this name."""

    def is_right(name: str, password: bytes) -> Awaitable[bool]:
        """Return whether the other server accepts this login.  Raises as ``find``."""

    def import_words(name: str) -> Sequence[str]:
        """
        Return what ``postoffice maildrop import`` needs, besides the address, to import from there.

        It is empty if nothing is to be imported after a first login.
        """


class IPasswordUpgrade(Interface):
    """
    Optional interface of a directory that is not a register: a password can be hashed anew.

    After a login with a password whose hash is outdated, it gets a new hash.
    """

    def upgrade_password(name: str, secret: str, new: str) -> Awaitable[bool]:
        """
        Replace an account's hash if it is still ``secret``; False if it is not.

        ``new`` is an Argon2id hash of the same password. Raises as ``find``.
        """


class IAccountListing(IAccountDirectory):
    """
    Optional interface of a directory: it can list its domains and accounts.

    Without it, mail never expires in maildrops that have another name than their account, and the
    ``postoffice`` command does not know whose they are.
    """

    def domains() -> Awaitable[list[str]]:
        """Return all domains, sorted."""

    def each_account(domain: str | None = None) -> AsyncIterator[Account]:
        """
        Yield all accounts, or those of one domain, sorted by address if the directory can.

        There may be a hundred thousand: read them in pages.  A change in the meantime may be
        seen or not, but no account that stays is left out, and none is yielded twice.
        """


class IAccountPages(IAccountListing):
    """Optional interface of a directory: it finds a page of accounts without reading the rest."""

    def accounts_after(after: str, most: int, match: str = "") -> Awaitable[Sequence[Account]]:
        """
        Return accounts with addresses after ``after``, sorted, at most so many.

        ``match`` is a part of their addresses, in normal form.
        """

    def aliases_after(after: str, most: int, match: str = "") -> Awaitable[Sequence[Alias]]:
        """Return aliases in the same way; ``match`` is a part of their address, or a target's."""


class IAccountRegister(IAccountListing, IAppPasswords):
    """A directory that the ``postoffice`` command can write to."""

    def add_domain(domain: str) -> Awaitable[bool]:
        """Add a domain; False if it exists already."""

    def remove_domain(domain: str) -> Awaitable[bool]:
        """
        Remove a domain; False if it does not exist.

        Raises NotEmpty while it has accounts or aliases, or another domain is the same as it.
        """

    def add(
        name: str, secret: str | None, scram: str | None = None, maildrop: str | None = None
    ) -> Awaitable[bool]:
        """
        Add an account in a local domain; False if an account or an alias has this name already.

        ``secret``, ``scram`` and ``maildrop`` are as in ``Account``. Give ``maildrop``
        for a restored account; otherwise the name comes from ``maildrop_for``.

        Raises LookupError if the domain is not local.
        """

    def maildrop_for(name: str) -> Awaitable[str]:
        """
        Return the name of the maildrop that a new account of this name gets.

        It is the account's name, unless a renamed account still uses the maildrop of that
        name: no account may get another's mail.
        """

    def rename(name: str, new: str) -> Awaitable[bool]:
        """
        Give an account another name; it keeps its maildrop, its devices and all else.

        Targets of aliases, forwards and catch-alls that were this account follow it.

        False if there is no such account, or if the new name is taken. Raises LookupError
        if the domain is not local.
        """

    def set_secret(name: str, secret: str | None, scram: str | None = None) -> Awaitable[bool]:
        """
        Set or remove an account's password: its hash, and the SCRAM keys of the same password.

        False if there is no such account.
        """

    def keep_scram(name: str, secret: str, scram: str, new: str | None = None) -> Awaitable[bool]:
        """
        Store the SCRAM keys of a password if its hash is still ``secret``; False if it is not.

        ``new`` is another hash of the same password, which replaces ``secret`` at the same
        moment.
        """

    def set_shared(name: str, shared: str | None) -> Awaitable[bool]:
        """
        Set or remove an account's shared secret; False if there is no such account.

        CRAM-MD5 needs this secret in clear; the directory stores it encrypted.
        """

    def add_app_password(name: str, device: AppPassword) -> Awaitable[bool]:
        """
        Add a device to an account; False if the account has one of that name already.

        Raises LookupError if there is no such account.
        """

    def remove_app_password(name: str, device: str) -> Awaitable[bool]:
        """
        Remove a device; its app password stops working at once. False if there is no such device.
        """

    def set_quota(name: str, quota: Quota) -> Awaitable[bool]:
        """
        Set an account's own quota; False if there is no such account.

        It replaces all of the account's own quota. A value of None means that the
        domain's value applies, or else the configured one.
        """

    def account_quota(name: str) -> Awaitable[Quota | None]:
        """Return the account's own quota; None if there is no such account."""

    def set_domain_quota(domain: str, quota: Quota) -> Awaitable[bool]:
        """
        Set the quota of a domain, for accounts without their own; False if there is no such domain.
        """

    def domain_quota(domain: str) -> Awaitable[Quota | None]:
        """Return the domain's quota; None if there is no such domain."""

    def set_mail_policy(name: str, mail_policy: MailPolicy) -> Awaitable[bool]:
        """
        Set an account's own mail policy; False if there is no such account.

        It replaces all of the account's own policy; None works as in ``set_quota``.
        """

    def account_mail_policy(name: str) -> Awaitable[MailPolicy | None]:
        """Return the account's own mail policy; None if there is no such account."""

    def set_domain_mail_policy(domain: str, mail_policy: MailPolicy) -> Awaitable[bool]:
        """
        Set a domain's policy, for accounts without their own; False if there is no such domain.
        """

    def domain_mail_policy(domain: str) -> Awaitable[MailPolicy | None]:
        """Return the domain's mail policy; None if there is no such domain."""

    def set_state(name: str, state: str, note: StateNote = NO_NOTE) -> Awaitable[bool]:
        """
        Set an account's state, one of ``model.address.STATES``, and who set it, when and why.

        False if there is no such account.
        """

    def remove(name: str) -> Awaitable[bool]:
        """
        Remove an account and its devices; False if there is no such account.

        Aliases that have it as a target stay as they are; see ``pointing_to``.

        It does not touch the account's mail; see ``IMailStore.discard``.
        """


class IAddresses(Interface):
    """
    Optional interface of a directory: it knows aliases, forwards and the settings of domains.

    A directory without this interface has accounts and plain domains; it is asked with
    ``find`` and ``serves``.
    """

    def look_up(name: str) -> Found | Awaitable[Found]:
        """
        Return the record of a name's domain, and the account or alias of exactly this name.

        ``name`` is in normal form; "@DOMAIN" asks for the domain only. The account is
        what ``find`` returns, and the domain is not None if ``serves`` returns True. A
        directory that knows the answer already returns it at once, otherwise it returns
        an awaitable; tags, aliases and catch-alls are followed by the caller
        (``accounts.address_resolution``). Raises TemporaryFailure, now or when awaited, if the
        directory cannot answer.
        """


class IAliasListing(IAddresses):
    """
    Optional interface of a directory: it can list its aliases.

    ``postoffice check-config`` reports those that lead nowhere.
    """

    def aliases(
        domain: str | None = None, after: str = "", most: int = 1000
    ) -> Awaitable[list[Alias]]:
        """Return aliases with names after ``after``, of all domains or of one, sorted by name."""


class IAddressRegister(IAliasListing):
    """
    A directory whose aliases and domains the ``postoffice`` command can write to.

    The command checks what it saves with ``accounts.address_checks`` before.
    """

    def add_alias(alias: Alias) -> Awaitable[bool]:
        """
        Add an alias; False if an account or an alias has this name already.

        Raises LookupError if the domain is not local.
        """

    def set_alias(alias: Alias) -> Awaitable[bool]:
        """Replace an alias; False if there is none of this name."""

    def remove_alias(name: str) -> Awaitable[bool]:
        """Remove an alias; False if there is none of this name."""

    def set_forward(name: str, forward: Sequence[Address], keep_copy: bool) -> Awaitable[bool]:
        """Set where an account's mail goes; False if there is no such account."""

    def set_domain(domain: Domain) -> Awaitable[bool]:
        """Replace what ``Domain`` says of a domain; False if there is no such domain."""

    def pointing_to(name: str) -> Awaitable[list[str]]:
        """
        Return what has this address as a target, sorted: aliases, accounts that forward to it.

        A catch-all is called ``*@DOMAIN``. For "@DOMAIN" the answer is what has targets
        anywhere in this domain, and "@OTHER" for each domain that is the same as it.
        """


class IBulkRegister(Interface):
    """
    Optional interface of a register with ``ITransactions``: many names in one question.

    So an import asks about, and writes, a thousand lines at a time.
    """

    def look_ups(names: Collection[str]) -> Awaitable[Mapping[str, Found]]:
        """Return for each of these names what ``IAddresses.look_up`` returns."""

    def maildrops(names: Collection[str]) -> Awaitable[Collection[str]]:
        """Return those of these names that accounts use for their maildrops."""

    def pointed_to(names: Collection[str]) -> Awaitable[Collection[str]]:
        """Return those of these addresses for which ``pointing_to`` finds something."""

    def own_settings(names: Collection[str]) -> Awaitable[Mapping[str, tuple[Quota, MailPolicy]]]:
        """Return for each of these accounts what it sets itself."""

    def all_app_passwords(names: Collection[str]) -> Awaitable[Mapping[str, Sequence[AppPassword]]]:
        """Return the devices, sorted by name, of each of these accounts that has any."""

    def add_accounts(new: Sequence[tuple[Account, Sequence[AppPassword]]]) -> Awaitable[None]:
        """
        Add accounts with all that is in ``Account``, and with their devices.

        Their domains are local; their names, and the names of their maildrops, are free.
        """

    def put_aliases(aliases: Sequence[Alias]) -> Awaitable[None]:
        """
        Add aliases, or replace those that are there.

        Their domains are local; they have different names, and no account has one of them.
        """


class ITransactions(Interface):
    """Optional interface of a register: many changes can be one transaction."""

    def together() -> AbstractContextManager[None]:
        """
        Make all changes until the end of the block one transaction.

        An exception in the block undoes all of them. Questions in the block are answered
        as if the changes were made already. Nobody else uses the directory meanwhile.
        Raises TemporaryFailure.
        """
