"""The warnings of check-config about old servers, from which users move (``kind: pop3``)."""

from __future__ import annotations

from typing import cast

from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountRegister, IFirstLogins
from postoffice.protocol.sasl import PLAINTEXT


async def old_servers(plugins: Plugins, settings: Settings) -> list[str]:
    """Return warnings about first logins that cannot succeed."""
    found = []
    for chosen, directory in zip(settings.accounts, plugins.directories, strict=True):
        if not IFirstLogins.providedBy(directory):
            continue
        old = cast(IFirstLogins, directory)
        asked = [name for name in chosen.options["domains"] if old.asks_about(f"x@{name}")]
        if not asked:
            why = f"the old server is not asked any more since {chosen.options['until']}"
            found.append(str(settings.source.problem(f"{chosen.key}.until", why)))
        for domain in asked:
            if not await _is_written(plugins, domain):
                why = (
                    f"{domain} is local in no directory that can be written to, so that nobody "
                    f"can make a first login: postoffice domain add {domain}"
                )
                found.append(str(settings.source.problem(f"{chosen.key}.domains", why)))
        if asked:
            found += _unfit(settings)
    return found


async def _is_written(plugins: Plugins, domain: str) -> bool:
    for one in plugins.directories:
        if IAccountRegister.providedBy(one) and await one.serves(domain):
            return True
    return False


def _unfit(settings: Settings) -> list[str]:
    """Return a warning for each listener with mechanisms that do not work for first logins."""
    return [
        f"{service} offers {', '.join(unfit)}: a mail program that uses it cannot make the first "
        "login of a user who moves; until then offer PLAIN and LOGIN only (mechanisms:)"
        for service, ones in settings.listeners.items()
        for one in ones
        if (unfit := [name for name in one.mechanisms if name not in PLAINTEXT])
    ]
