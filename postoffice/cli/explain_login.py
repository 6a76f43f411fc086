"""``postoffice explain login``: show whether an account can log in, and why not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import click

from postoffice.accounts import app_passwords, password_schemes, passwords
from postoffice.accounts.attempts import FailureCount
from postoffice.accounts.credentials import PlainLogin
from postoffice.accounts.directories import Directories
from postoffice.accounts.first_logins import FirstLogins
from postoffice.cli.command import Answer, CommandContext, command
from postoffice.cli.explain import Step, client_of, find_account
from postoffice.cli.new_password import first_line
from postoffice.cli.output import counted, moment, table
from postoffice.cli.parameters import Parameter, addresses
from postoffice.config.listeners import IMPLICIT_TLS
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IPasswordVerifier
from postoffice.model.address import Account, Address
from postoffice.model.app_password import AppPassword, allowed_from
from postoffice.model.envelope import Client
from postoffice.util.maybe_awaitable import later
from postoffice.util.networks import network_of

SERVICES = ("pop3", "pop3s", "submission", "submissions")
_WITHOUT_TLS = {
    "never": "a password is taken with TLS only",
    "loopback": "without TLS a password is taken from this machine only",
    "always": "a password is taken with and without TLS",
}
ACCEPTED, OPEN = "accepted", "accepted with the right password"


@command("login")
@click.argument("address", type=Parameter("address", Address.parse, addresses))
@click.option("--service", type=click.Choice(SERVICES), help="The service that it logs in to.")
@click.option(
    "--from-ip",
    type=Parameter("ip", client_of),
    help="As for a client with this IP address, which has TLS.",
)
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read a password from standard input, and say whether it is right.",
)
async def login(
    context: CommandContext,
    address: Address,
    service: str | None,
    from_ip: Client | None,
    password_stdin: bool,
) -> Answer:
    """
    Show whether the account ADDRESS can log in, and the reasons.

    No password is needed: without --password-stdin the last line says what would happen with
    the right one.  Nothing is changed, and no attempt is counted.  An app password is
    recognized, too.

    With --json: address, steps (each with step and found), result, accepted (true, false, or
    null if that depends on the password or on another checker).
    """
    settings = context.settings()
    password = first_line() if password_stdin else None
    name = address.normal
    async with context.open(settings) as plugins, context.logins(plugins, settings) as logins:
        failures = await plugins.executor.run(logins.attempts.failures, time.time())
        explanation = LoginExplanation(plugins, settings, service or "", from_ip, password)
        steps = [step async for step in explanation.steps(name)]
    names = {name} if from_ip is None or from_ip.local else {name, network_of(from_ip.address)}
    steps += _throttle([one for one in failures if one.name in names])
    result = explanation.result
    data = {
        "address": name,
        "steps": [{"step": step, "found": found} for step, found in steps],
        "result": result,
        "accepted": explanation.accepted,
    }
    return Answer(data, table([*steps, ("login", result)]))


def _throttle(failures: Sequence[FailureCount]) -> list[Step]:
    """Return how many wrong passwords there were, and whether further logins are blocked now."""
    steps = []
    for one in failures:
        of = f"{one.kind} {one.name}"
        text = f"{counted(one.count, 'wrong password')} of the {of} within a day"
        if one.until is not None:
            text += (
                f"; blocked until {moment(one.until)}, except for networks from which the owner "
                f"has lately logged in (postoffice auth-failures --clear {one.name})"
            )
        steps.append(("throttle", text))
    return steps


@dataclass
class LoginExplanation:
    """
    Plays a login, step by step; ``refusals`` are the reasons to refuse it, the first is shown.

    ``service`` "" is any service, ``client`` None any client, ``password`` None the right one.
    ``vouched`` is whether other checkers may still accept the login.
    """

    plugins: Plugins
    settings: Settings
    service: str
    client: Client | None
    password: bytes | None = field(repr=False)
    refusals: list[str] = field(default_factory=list)
    vouched: bool = False
    right: bool = False

    @property
    def accepted(self) -> bool | None:
        """True if the login is accepted; None if that cannot be known here."""
        if self.refusals:
            return None if self.vouched else False
        return True if self.right else None

    @property
    def result(self) -> str:
        """The result as a sentence."""
        if not self.refusals:
            return ACCEPTED if self.right else OPEN
        other = "; another checker of the configuration may still accept it"
        return f"refused: {self.refusals[0]}{other if self.vouched else ''}"

    async def steps(self, name: str) -> AsyncIterator[Step]:
        """Yield the checks, in order."""
        found = await find_account(self.plugins, name)
        account = None if found is None else await found[1].find(name)
        if self.service:
            yield "service", self._service()
        if found is None or account is None:
            yield "account", await self._nobody(name)
        else:
            yield "account", f"{name} is in {found[0]}"
            yield "state", self._state(account)
            devices = await Directories(self.plugins.directories).app_passwords(name)
            verifies = IPasswordVerifier.providedBy(found[1])
            yield "password", self._password(account, verifies, bool(devices))
            if account.networks:
                yield "network", self._network(account.networks)
            for one in devices:
                yield "device", self._device(one)
            if self.password is not None:
                yield "given", await self._given(account, devices, verifies, self.password)
        if self.settings.checkers:
            kinds = ", ".join(one.partition(":")[0] for one in self.settings.checkers)
            self.vouched = found is None or self.password is not None
            yield "checkers", f"then these are asked, which may accept it, too: {kinds}"

    def _is_new(self, name: str, account: Account | None) -> bool:
        """Whether the daemon would ask an old server about this name; the command asks none."""
        return FirstLogins(self.plugins.directories, self.plugins.executor).may_be(name, account)

    def _service(self) -> str:
        listeners = getattr(self.settings.listeners, self.service)
        if not listeners:
            self.refusals.append(f"nothing listens for {self.service}")
            return f"the configuration has no listener of {self.service}"
        how = "; ".join(
            f"{one.endpoint} offers {', '.join(one.mechanisms) or 'no AUTH'}" for one in listeners
        )
        if self.service in IMPLICIT_TLS:
            return f"{how}; TLS from the first octet"
        return f"{how}; {_WITHOUT_TLS[self.settings.tls.plaintext_login]} (tls: plaintext_login)"

    async def _nobody(self, name: str) -> str:
        directories = Directories(self.plugins.directories)
        domain, entry = await later(directories.look_up(name))
        if entry is None and domain is not None and self._is_new(name, None):
            return f"{name} is not here yet: the first login asks the old server"
        self.refusals.append("there is no such account")
        if not await directories.serves(name.rpartition("@")[2]):
            return f"{name}: its domain is not ours"
        return f"no directory has an account {name}; an alias cannot log in"

    def _state(self, account: Account) -> str:
        note = account.state_note
        why = f" (set by {note.by}{f': {note.why}' if note.why else ''})" if note.by else ""
        if not account.logs_in:
            self.refusals.append(f"the account is {account.state}")
            return f"{account.state}: it may not log in{why}"
        return f"{account.state}: it may log in{'' if account.sends else ', but not send'}{why}"

    def _password(self, account: Account, verifies: bool, devices: bool) -> str:
        more = ["SCRAM-SHA-256"] if account.scram else []
        more += ["CRAM-MD5 and APOP"] if account.shared else []
        also = f"; it can log in by {', '.join(more)}, too" if more else ""
        if account.secret is not None:
            try:
                return f"set, hashed by {password_schemes.read(account.secret).scheme}{also}"
            except password_schemes.UnusableHash as why:
                self.refusals.append(f"its hash cannot be used: {why}")
                return f"its hash cannot be used: {why}{also}"
        if verifies:
            return f"the directory itself says whether a password is right{also}"
        if self._is_new(account.address, account):
            return "none yet: the first login asks the old server"
        if not devices and not self.settings.checkers:
            self.refusals.append("it has no password")
        return f"none{also}"

    def _network(self, networks: Sequence[str]) -> str:
        told = f"it may log in from {', '.join(networks)} only"
        if self.client is None or allowed_from(self.client.address, networks):
            return told
        self.refusals.append(told)
        return f"{told}, not from {self.client.address}"

    def _objection(self, device: AppPassword) -> str:
        """Return why a device may not log in, as far as the service and the client are known."""
        asked = replace(
            device,
            protocol=device.protocol if self.service else "any",
            networks=device.networks if self.client else (),
        )
        address = "" if self.client is None else self.client.address
        return asked.objection(self.service, address, time.time())

    def _device(self, device: AppPassword) -> str:
        why = self._objection(device)
        told = f"{device.name}: for {device.protocol} services"
        if device.protocol == "any":
            told = f"{device.name}: for all services"
        told += f", from {', '.join(device.networks)}" if device.networks else ""
        told += f", until {moment(device.expires)}" if device.expires is not None else ""
        return f"{told}; refused: {why}" if why else told

    async def _given(
        self, account: Account, devices: Sequence[AppPassword], verifies: bool, password: bytes
    ) -> str:
        """Say whether a password is right."""
        credentials = PlainLogin(
            account.address.encode(), password, self.client or Client(), self.service
        )
        device = app_passwords.recognized(credentials, devices)
        if device is not None:
            why = self._objection(device)
            self.right = not why
            self.refusals += [f"it is the app password of {device.name}, and {why}"] if why else []
            return f"it is the app password of {device.name}"
        if account.secret is not None:
            run = self.plugins.executor.run
            self.right = await run(passwords.verify, account.secret, password)
        elif verifies:
            self.right = await Directories(self.plugins.directories).verify(account, password)
        if not self.right and self._is_new(account.address, account):
            return "only the old server knows whether the password is right; it was not asked"
        if not self.right:
            self.refusals.append("the password is wrong")
        return "the password is right" if self.right else "the password is wrong"
