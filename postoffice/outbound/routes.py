"""
Routes: where a message for another domain goes next, by its sender and recipient.

A pattern is an address, a domain, ``.example.net`` for all domains below example.net, or ``<>``
for the null reverse-path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from postoffice.model.address import Address, NotAnAddress, normal_domain
from postoffice.model.route import Direct, Host, Refuse, Route, Smarthost

#: The pattern of the null reverse-path, which bounces have.
NULL = "<>"
#: The route of mail that matches no rule.
NO_ROUTE = Refuse("There is no route to this address from here")
#: Octets of a refusal at most.
WORDS = 200


def read_pattern(text: str) -> str:
    """Return the normal form of a pattern.  Raises NotAnAddress."""
    if text == NULL:
        return text
    if text.startswith("."):
        return f".{normal_domain(text[1:])}"
    return Address.parse(text).normal if "@" in text else normal_domain(text)


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One route and its conditions: patterns in their normal form, or None for all.

    It holds for a message if one of ``senders`` and one of ``recipients`` fit.
    """

    route: Route
    senders: frozenset[str] | None = None
    recipients: frozenset[str] | None = None


def shown(route: Route) -> str:
    """Say in a few words where a route leads."""
    match route:
        case Direct():
            return "direct, to the mail servers of its domain"
        case Smarthost():
            return f"smarthost {route.name}, {route.host}:{route.port}"
        case Refuse():
            return f"refused: {route.words}"
        case Host():
            where = f"{route.host}:{route.port}" if route.port else route.host
            return f"{'LMTP' if route.lmtp else 'SMTP'} to {where}"


class Router:
    """Finds the route of a message: the first of the rules that holds."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._by_sender = any(rule.senders is not None for rule in rules)
        self._by_recipient = any(rule.recipients is not None for rule in rules)

    def route(self, sender: str, recipient: str) -> Route:
        """Return the route from a sender ("" for ``<>``) to a recipient of another domain."""
        senders = matching_patterns(sender) if self._by_sender else ()
        recipients = matching_patterns(recipient) if self._by_recipient else ()
        for rule in self._rules:
            if _matches(rule.senders, senders) and _matches(rule.recipients, recipients):
                return rule.route
        return NO_ROUTE

    def signs(self, sender: str, recipients: Iterable[str]) -> bool:
        """
        Whether a message gets our DKIM signature, which all its recipients get or none.

        It gets none if all recipients are reached by smarthosts without ``sign``.
        """
        routes = (self.route(sender, one) for one in recipients)
        return not all(isinstance(one, Smarthost) and not one.sign for one in routes)


def _matches(patterns: frozenset[str] | None, these: Sequence[str]) -> bool:
    return patterns is None or not patterns.isdisjoint(these)


def matching_patterns(address: str) -> list[str]:
    """Return all patterns that an address matches."""
    if not address:
        return [NULL]
    try:
        normal = Address.parse(address).normal
    except NotAnAddress:  # a stranger's sender may have any form
        normal = address.lower()
    domain = normal.rpartition("@")[2]
    found = [normal, domain]
    if domain.startswith("["):  # an address literal has no domains above it
        return found
    while dot := domain.partition(".")[2]:
        domain = dot
        found.append(f".{domain}")
    return found
