"""``postoffice dkim``: the keys that sign the mail of a domain, and their records in the DNS."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import click

from postoffice.cli.command import Answer, CommandContext, Refused, check_domain_exists, command
from postoffice.cli.output import iso, moment, table
from postoffice.cli.parameters import DOMAIN
from postoffice.dns.resolver import Resolver
from postoffice.model import dns_answer
from postoffice.model.dns_answer import DNSUnavailable
from postoffice.outbound.dkim import NotAKey, same_record, zone_line
from postoffice.server.dkim_keys import OLD, WAITING, DKIMKeys, KeyEntry

#: Seconds for which the record of a key is needed after its last signature.
NEEDED = 7 * 86400

Ask = Callable[[str, str], Awaitable[dns_answer.Outcome]]


@click.group()
def dkim() -> None:
    """Administer the keys that sign your mail (DKIM)."""


@asynccontextmanager
async def _keys(context: CommandContext, domain: str | None = None) -> AsyncIterator[DKIMKeys]:
    """Provide the keys, as the user that the post office runs as."""
    settings = context.settings()
    async with context.open(settings) as plugins:
        if domain is not None:
            await check_domain_exists(plugins, domain)
        try:
            yield DKIMKeys(settings.state)
        except NotAKey as error:
            raise Refused(str(error)) from error
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}") from error


@command("add", dkim)
@click.argument("domain", type=DOMAIN)
async def add(context: CommandContext, domain: str) -> Answer:
    """
    Make the first keys of DOMAIN, and print their DNS records.

    One is an RSA key, and one an Ed25519 key.  They sign once "postoffice dkim check"
    has found the records in the DNS.

    With --json: domain, records (each with selector, kind, name, text, line).
    """
    async with _keys(context, domain) as keys:
        if keys.entries(domain):
            raise Refused(f"{domain} has keys already; for new ones: postoffice dkim rotate")
        return _records(keys, domain, keys.add(domain, time.time()))


@command("rotate", dkim)
@click.argument("domain", type=DOMAIN)
async def rotate(context: CommandContext, domain: str) -> Answer:
    """
    Make new keys of DOMAIN, and print their DNS records.

    They replace the keys that sign now once "postoffice dkim check" has found the
    records in the DNS.

    With --json: domain, records (as in add).
    """
    async with _keys(context, domain) as keys:
        entries = keys.entries(domain)
        if not entries:
            raise Refused(f"{domain} has no keys yet; make some: postoffice dkim add")
        waiting = _selectors(one for one in entries if one.state == WAITING)
        if waiting:
            raise Refused(f"new keys wait for their records already: {', '.join(waiting)}")
        return _records(keys, domain, keys.add(domain, time.time()))


@command("list", dkim)
async def list_(context: CommandContext) -> Answer:
    """
    List the keys of all domains.

    A key is waiting (its record is not in the DNS yet), active (it signs) or old (it has
    signed).

    With --json: keys, each with domain, selector, kind, state, since.
    """
    async with _keys(context) as keys:
        found = [(name, one) for name in keys.domains() for one in keys.entries(name)]
    rows = [("DOMAIN", "SELECTOR", "KIND", "STATE", "SINCE")]
    rows += [(name, one.selector, one.kind, one.state, moment(one.since)) for name, one in found]
    data = [
        {
            "domain": name,
            "selector": one.selector,
            "kind": one.kind,
            "state": one.state,
            "since": iso(one.since),
        }
        for name, one in found
    ]
    return Answer({"keys": data}, table(rows) if found else ["no keys"])


@command("check", dkim)
@click.argument("domain", type=DOMAIN)
async def check(context: CommandContext, domain: str) -> Answer:
    """
    Look up the DNS records of DOMAIN's keys.

    Keys that waited for their records sign from now on.  The exit code is 1 if a record
    is missing or wrong.

    With --json: domain, keys (each with selector, kind, state, name, record: right,
    wrong, missing or unknown).
    """
    outbound = context.settings().outbound
    resolver = Resolver(context.reactor, outbound.dns.servers if outbound else ())
    async with _keys(context, domain) as keys:
        if not keys.entries(domain):
            raise Refused(f"{domain} has no keys yet; make some: postoffice dkim add")
        found = {
            one.selector: await _look_up(resolver.ask, keys, domain, one)
            for one in keys.entries(domain)
            if one.state != OLD
        }
        right = [
            one.selector
            for one in keys.entries(domain)
            if one.state == WAITING and found[one.selector] == "right"
        ]
        if right:
            keys.activate(domain, right, time.time())
        entries = [one for one in keys.entries(domain) if one.selector in found]
        lines = [zone_line(keys.key(domain, one)) for one in found if found[one] != "right"]
        data = [
            {
                "selector": one.selector,
                "kind": one.kind,
                "state": one.state,
                "name": keys.key(domain, one.selector).name,
                "record": found[one.selector],
            }
            for one in entries
        ]
    rows = [("SELECTOR", "KIND", "STATE", "RECORD")]
    rows += [(one.selector, one.kind, one.state, found[one.selector]) for one in entries]
    said = table(rows)
    if lines:
        said += ["", "the DNS should have:", "", *lines]
    return Answer({"domain": domain, "keys": data}, said, status=1 if lines else 0)


async def _look_up(ask: Ask, keys: DKIMKeys, domain: str, entry: KeyEntry) -> str:
    key = keys.key(domain, entry.selector)
    try:
        outcome = await ask(key.name, "TXT")
    except DNSUnavailable:
        return "unknown"
    if not isinstance(outcome, dns_answer.Answer):
        return "missing"
    return "right" if any(same_record(one, key.record) for one in outcome.records) else "wrong"


@command("retire", dkim)
@click.argument("domain", type=DOMAIN)
@click.option("--now", is_flag=True, help="Also keys that signed until less than a week ago.")
async def retire(context: CommandContext, domain: str, now: bool) -> Answer:
    """
    Delete the old keys of DOMAIN.

    These are keys that have not signed for a week or longer.  Their records can be
    removed from the DNS; before, servers need them for mail that is still on its way.

    With --json: domain, retired (selectors), names (of records that can be removed).
    """
    before = time.time() - (0 if now else NEEDED)
    async with _keys(context, domain) as keys:
        old = [one for one in keys.entries(domain) if one.state == OLD]
        done = _selectors(one for one in old if one.since <= before)
        if old and not done:
            raise Refused(f"the old keys of {domain} signed until less than a week ago (see --now)")
        if not old:
            raise Refused(f"{domain} has no old keys")
        names = [keys.key(domain, one).name for one in done]
        keys.remove(domain, done)
    data = {"domain": domain, "retired": done, "names": names}
    return Answer(data, ["these records can be removed from the DNS:", "", *names])


def _selectors(entries: Iterable[KeyEntry]) -> list[str]:
    return [one.selector for one in entries]


def _records(keys: DKIMKeys, domain: str, entries: list[KeyEntry]) -> Answer:
    """Print the records of new keys."""
    made = [keys.key(domain, one.selector) for one in entries]
    data = [
        {
            "selector": one.selector,
            "kind": one.kind,
            "name": one.name,
            "text": one.record,
            "line": zone_line(one),
        }
        for one in made
    ]
    lines = [zone_line(one) for one in made]
    after = f"when the DNS has them: postoffice dkim check {domain}"
    return Answer({"domain": domain, "records": data}, [*lines, "", after])
