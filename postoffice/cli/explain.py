"""``postoffice explain``: show how mail for an address is decided, step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import click

from postoffice.cli.common import (
    Answer,
    CommandContext,
    Parameter,
    addresses,
    command,
    counted,
    sized,
    table,
)
from postoffice.cli.quotas import SIZE_TYPE, quota_of
from postoffice.config.reader import ChosenPlugin
from postoffice.config.settings import Settings
from postoffice.daemon.build import build_reception_context
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountDirectory
from postoffice.model.address import Account, Address, normal_domain
from postoffice.model.envelope import Client, Envelope, SessionInfo
from postoffice.model.errors import PostOfficeError
from postoffice.model.reply import TOO_LARGE, Reply
from postoffice.policy.chain import STAGES, PolicyChain

#: What a step checks, and its result.
Step = tuple[str, str]


def _recipient(text: str) -> Address | None:
    """Return a mail address, or None for ``postmaster`` without a domain."""
    return None if text.lower() == "postmaster" else Address.parse(text)


@click.group()
def explain() -> None:
    """Explain how the post office decides about mail."""


@command("rcpt", explain)
@click.argument("address", type=Parameter("address", _recipient, addresses))
@click.option(
    "--size",
    type=SIZE_TYPE,
    default=0,
    help="The size that the client declares (SIZE), such as 5MiB.",
)
def rcpt(context: CommandContext, address: Address | None, size: int) -> Answer:
    """
    Show the reply to RCPT for ADDRESS, and the reasons.

    ADDRESS may be postmaster, without a domain.  Policies are listed but not asked,
    because their answers depend on the client.

    With --json: address, size, steps (each with step and found), reply, accepted (true or
    false).
    """
    settings = context.settings()

    async def work(plugins: Plugins) -> tuple[list[Step], Reply]:
        steps = [step async for step in _steps(plugins, settings, address, size)]
        return steps, await _reply(plugins, settings, address, size)

    steps, reply = context.ask(work, settings)
    said = reply.wire.decode().strip()
    data = {
        "address": str(address or "postmaster"),
        "size": size,
        "steps": [{"step": step, "found": found} for step, found in steps],
        "reply": said,
        "accepted": reply.positive,
    }
    return Answer(data, table([*steps, ("reply", said)]))


async def _reply(plugins: Plugins, settings: Settings, address: Address | None, size: int) -> Reply:
    """Return the reply of the SMTP session."""
    if size > settings.limits.message_size:
        return TOO_LARGE  # at MAIL
    reception_context = build_reception_context(
        settings, plugins, PolicyChain(), lambda: datetime.now(UTC)
    )
    envelope = Envelope("explained", Client(), size=size)
    try:
        return await reception_context.reception(
            SessionInfo("explained", "smtp", Client())
        ).recipient(envelope, address)
    except PostOfficeError as failure:
        return failure.reply


async def _steps(
    plugins: Plugins, settings: Settings, address: Address | None, size: int
) -> AsyncIterator[Step]:
    """Yield the checks of an SMTP session, in order, up to the one that refuses."""
    most = settings.limits.message_size
    if size:
        large = "over" if size > most else "within"
        yield "size", f"{sized(size)}: {large} limits.message_size, {sized(most)}"
        if size > most:
            return
    if address is not None:
        domain = normal_domain(address.domain)
        whose = await _whose(plugins, domain)
        yield "domain", f"{domain} is ours, by {whose}" if whose else f"{domain} is not ours"
        if not whose:
            return
    name, postmaster = "", settings.postmaster.normal
    if address is not None and address.local.casefold() != "postmaster":
        name = address.normal
    yield "postmaster", "no" if name else f"yes: his account is {postmaster}"
    found = await _find(plugins, name or postmaster)
    if found is None:
        yield "account", f"there is no {name or postmaster}"
        return
    place, directory, account = found
    yield "account", f"{account.address}, in {place}"
    if not account.enabled and account.address != postmaster:
        yield "state", f"{account.state}: no mail is taken"
        return
    told = await quota_of(directory, settings, name or postmaster, account)
    yield "quota", told.line
    messages, octets = await plugins.store.count(account.maildrop)
    held = f"{counted(messages, 'message')}, {sized(octets)}"
    try:
        if told.quota.limited:
            await plugins.store.admit(replace(account, quota=told.quota), size)
    except PostOfficeError as failure:
        yield "room", f"no: {failure}; it holds {held}"
        return
    yield "room", f"yes: it holds {held}"
    for chosen, policy in zip(settings.policies, plugins.policies, strict=True):
        stages = ", ".join(stage for stage in STAGES if stage in policy.stages)
        services = ", ".join(chosen.options["services"])
        yield "policy", f"{_place(chosen)}, asked at {stages}, of clients of {services}"


def _place(chosen: ChosenPlugin) -> str:
    return f"{chosen.key} ({chosen.maker.kind})"


def _directories(plugins: Plugins) -> Iterator[tuple[str, IAccountDirectory]]:
    """
    Yield the directories in the order in which they are asked, each with its configuration key.
    """
    return zip(map(_place, plugins.chosen), plugins.directories, strict=False)


async def _whose(plugins: Plugins, domain: str) -> str:
    """Return the configuration key of the directory that serves a domain, or ""."""
    for place, directory in _directories(plugins):
        if await directory.serves(domain):
            return place
    return ""


async def _find(plugins: Plugins, name: str) -> tuple[str, IAccountDirectory, Account] | None:
    for place, directory in _directories(plugins):
        account = await directory.find(name)
        if account is not None:
            return place, directory, account
    return None
