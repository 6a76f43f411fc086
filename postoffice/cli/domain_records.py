"""``postoffice domain records``: what the DNS needs for a domain, to be copied."""

from __future__ import annotations

from textwrap import wrap

import click

from postoffice.cli.command import Answer, CommandContext, Refused, check_domain_exists, command
from postoffice.cli.parameters import DOMAIN
from postoffice.doctor.dns_findings import domain_keys, site_here
from postoffice.doctor.records import domain_records, host_records
from postoffice.outbound.dkim import NotAKey


@command("records")
@click.argument("domain", type=DOMAIN)
async def print_records(context: CommandContext, domain: str) -> Answer:
    """
    Print the DNS records that DOMAIN needs, as lines of a zone file.

    A comment before each says why it is needed.  All domains share those of this machine.
    "postoffice doctor --only dns" says which are in the DNS.

    With --json: domain, records, host (records of this machine): each with purpose, name,
    type, value, why, needed, complete (false: the value says what belongs there), line.
    """
    settings = context.settings()
    site = site_here(settings)
    async with context.open(settings) as plugins:
        await check_domain_exists(plugins, domain)
        try:
            keys = [one.key for one in domain_keys(settings.state, domain)]
        except (NotAKey, OSError) as error:
            raise Refused(str(error)) from error
    ours, shared = domain_records(site, domain, keys), host_records(site)
    lines, told = [], ""
    for heading, found in ((f"; {domain}", ours), (f"; this machine, {site.hostname}", shared)):
        lines.append(heading)
        for one in found:
            why = one.why if one.needed else f"Optional. {one.why}"
            if why != told:
                lines += ["", *(f"; {line}" for line in wrap(why, 76))]
            told = why
            lines.append(one.line)
        lines.append("")
    if not keys:
        lines.append(f"; mail is not signed yet: postoffice dkim add {domain}")
    data = {
        "domain": domain,
        "records": [one.data() for one in ours],
        "host": [one.data() for one in shared],
    }
    return Answer(data, lines)
