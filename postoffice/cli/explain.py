"""``postoffice explain``: show how mail for an address is decided, step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address

import click

from postoffice.accounts.address_resolution import Resolution
from postoffice.accounts.address_resolution import Step as Rule
from postoffice.cli.command import Answer, CommandContext, command
from postoffice.cli.output import counted, sized, table
from postoffice.cli.parameters import Parameter, addresses
from postoffice.cli.quotas import SIZE_TYPE, quota_of
from postoffice.config.chosen_plugin import ChosenPlugin
from postoffice.config.settings import Settings
from postoffice.daemon.build_parts import build_policy_chain, build_reception_context
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountDirectory
from postoffice.model.address import Account, Address, normal_domain
from postoffice.model.envelope import Client, Envelope, SessionInfo
from postoffice.model.errors import PostOfficeError
from postoffice.model.reply import NO_FORWARDING, TOO_LARGE, Reply
from postoffice.outbound.routes import shown
from postoffice.policy.chain import STAGES, PolicyChain
from postoffice.server.submission import Receptions
from postoffice.util.maybe_awaitable import later

#: What a step checks, and its result.
Step = tuple[str, str]


def _recipient(text: str) -> Address | None:
    """Return a mail address, or None for ``postmaster`` without a domain."""
    return None if text.lower() == "postmaster" else Address.parse(text)


def _sender(text: str) -> Address | None:
    """Return a mail address, or None for the null reverse-path of bounces."""
    return None if text in ("", "<>") else Address.parse(text)


def client_of(text: str) -> Client:
    """Return a client with this IP address.  Raises ValueError."""
    return Client(str(ip_address(text)))


@click.group()
def explain() -> None:
    """Explain how the post office decides about mail and logins."""


@command("rcpt", explain)
@click.argument("address", type=Parameter("address", _recipient, addresses))
@click.option(
    "--size",
    type=SIZE_TYPE,
    default=0,
    help="The size that the client declares (SIZE), such as 5MiB.",
)
@click.option(
    "--from-ip",
    type=Parameter("ip", client_of),
    help="Ask the policies, as for a client of smtp with this IP address.",
)
@click.option(
    "--sender",
    type=Parameter("address", _sender, addresses),
    help="The sender (MAIL FROM); otherwise <>.",
)
async def rcpt(
    context: CommandContext,
    address: Address | None,
    size: int,
    from_ip: Client | None,
    sender: Address | None,
) -> Answer:
    """
    Show the reply to RCPT for ADDRESS, and the reasons.

    ADDRESS may be postmaster, without a domain.  The rules are shown in the order in which
    they are tried; targets of aliases are indented.  Policies are listed; with --from-ip
    they are asked, and those that remember clients remember this one.

    With --json: address, size, steps (each with step and found), reply, accepted (true or
    false).
    """
    settings = context.settings()
    envelope = Envelope("explained", from_ip or Client(), sender=sender, size=size)
    async with context.open(settings, policies=from_ip is not None) as plugins:
        policies = PolicyChain()
        if from_ip is not None:
            policies = build_policy_chain(settings, plugins.policies, context.reactor)
        shared = build_reception_context(settings, plugins, policies, lambda: datetime.now(UTC))
        explanation = Explanation(plugins, settings, shared, sender)
        steps = [step async for step in explanation.steps(address, size)]
        reply = await _reply(shared, settings, envelope, address)
    said = reply.wire.decode().strip()
    data = {
        "address": str(address or "postmaster"),
        "size": size,
        "steps": [{"step": step, "found": found} for step, found in steps],
        "reply": said,
        "accepted": reply.positive,
    }
    return Answer(data, table([*steps, ("reply", said)]))


async def _reply(
    reception_context: Receptions,
    settings: Settings,
    envelope: Envelope,
    address: Address | None,
) -> Reply:
    """Return the reply of the SMTP session to RCPT, or an earlier refusal."""
    if envelope.size > settings.limits.message_size:
        return TOO_LARGE  # at MAIL
    session_info = SessionInfo("explained", "smtp", envelope.client)
    reception = reception_context.reception(session_info)
    try:
        refusal = await reception.connected()
        if refusal is not None:
            return refusal
        said = await later(reception.sender(envelope))
        return await later(reception.recipient(envelope, address)) if said.positive else said
    except PostOfficeError as failure:
        return failure.reply


@dataclass
class Explanation:
    """What an SMTP session decides about a recipient, step by step."""

    plugins: Plugins
    settings: Settings
    context: Receptions
    sender: Address | None = None

    async def steps(self, address: Address | None, size: int) -> AsyncIterator[Step]:
        """Yield the checks, in order, up to the one that refuses."""
        most = self.settings.limits.message_size
        if size:
            large = "over" if size > most else "within"
            yield "size", f"{sized(size)}: {large} limits.message_size, {sized(most)}"
            if size > most:
                return
        if address is not None:
            domain = normal_domain(address.domain)
            whose = await self._whose(domain)
            yield "domain", f"{domain} is ours, by {whose}" if whose else f"{domain} is not ours"
            if not whose:
                if self.context.router is not None:
                    yield "route", f"{self._route(address)} (for users who have logged in)"
                return
        try:
            asked = self.context.resolve(address)
            found = asked if isinstance(asked, Resolution) else await asked
        except PostOfficeError as failure:
            for rule in getattr(failure, "steps", ()):
                yield await self._rule(rule)
            yield "failed", str(failure)
            return
        for rule in found.steps:
            yield await self._rule(rule)
        async for step in self._outcome(found, size):
            yield step

    async def _rule(self, rule: Rule) -> Step:
        place = ""
        if isinstance(rule.entry, Account):
            where = await find_account(self.plugins, rule.entry.address)
            place = f", in {where[0]}" if where else ""
        return rule.rule, f"{'  ' * rule.depth}{rule.address}: {rule.found}{place}"

    async def _outcome(self, found: Resolution, size: int) -> AsyncIterator[Step]:
        """Yield what happens to the message, and the policies if it is not refused."""
        for one in found.refused:
            yield "refused", f"{one.address}: {one.reply.log_text}"
        for target in found.remote:
            yield "remote", f"{target}: {self._route(target)}"
        for name in found.discarded:
            yield "discarded", name
        room = bool(found.discarded or (found.remote and self.context.router))
        for account in found.accounts:
            async for step, said in self._room(account, size):
                yield step, said if len(found.accounts) == 1 else f"{account.address}: {said}"
                room |= step == "room" and said.startswith("yes")
        if room:
            for chosen, policy in zip(self.settings.policies, self.plugins.policies, strict=True):
                stages = ", ".join(stage for stage in STAGES if stage in policy.stages)
                services = ", ".join(chosen.options["services"])
                yield "policy", f"{_place(chosen)}, asked at {stages}, of clients of {services}"

    def _route(self, target: Address) -> str:
        """Return where mail for an address in another domain goes."""
        if self.context.router is None:
            return NO_FORWARDING.log_text
        sender = "" if self.sender is None else str(self.sender)
        return shown(self.context.router.route(sender, str(target)))

    async def _room(self, account: Account, size: int) -> AsyncIterator[Step]:
        """Yield the account's quota, and whether there is room."""
        found = await find_account(self.plugins, account.address)
        if found is None:
            return
        told = await quota_of(found[1], self.settings, account.address, account)
        yield "quota", told.line
        messages, octets = await self.plugins.store.count(account.maildrop)
        held = f"{counted(messages, 'message')}, {sized(octets)}"
        try:
            if told.quota.limited:
                await self.plugins.store.admit(replace(account, quota=told.quota), size)
        except PostOfficeError as failure:
            yield "room", f"no: {failure}; it holds {held}"
        else:
            yield "room", f"yes: it holds {held}"

    async def _whose(self, domain: str) -> str:
        """Return the configuration key of the directory that serves a domain, or ""."""
        for place, directory in _directories(self.plugins):
            if await directory.serves(domain):
                return place
        return ""


def _place(chosen: ChosenPlugin[object]) -> str:
    return f"{chosen.key} ({chosen.maker.kind})"


def _directories(plugins: Plugins) -> Iterator[tuple[str, IAccountDirectory]]:
    """
    Yield the directories in the order in which they are asked, each with its configuration key.
    """
    return zip(map(_place, plugins.chosen), plugins.directories, strict=False)


async def find_account(plugins: Plugins, name: str) -> tuple[str, IAccountDirectory] | None:
    """Return the directory that has an account, and its configuration key; None without one."""
    for place, directory in _directories(plugins):
        if await directory.find(name) is not None:
            return place, directory
    return None
