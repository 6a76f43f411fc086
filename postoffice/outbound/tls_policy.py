"""
How a connection to a host of a domain is encrypted.

The order is: the administrator's own rule, what the domain asks for by MTA-STS (RFC 8461), and
else TLS if the server offers it.  DANE (RFC 7672) will stand between the first two: for a host
whose ``Hop.secure`` is true, TLSA records decide, and MTA-STS is then not asked (RFC 8461 §2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from postoffice.model.hop import OPPORTUNISTIC, VERIFY, Hop, PeerReply
from postoffice.outbound.mta_sts import ENFORCE, NONE, Policy


@dataclass(frozen=True, slots=True)
class TLSChoice:
    """
    A hop with its level; ``because`` is "own rule", "MTA-STS", "REQUIRETLS" or "".

    ``unfit`` is why the host may not be used now; another one may be.  ``note`` is for the log: the
    host does not match a policy in mode testing.
    """

    hop: Hop
    because: str = ""
    unfit: PeerReply | None = None
    note: str = ""


class TLSRules:
    """The administrator's rules: levels by domain, or by ``.domain`` for all domains below it."""

    def __init__(self, levels: Mapping[str, str]) -> None:
        self._levels = dict(levels)

    def level(self, domain: str) -> str | None:
        """The level for a domain (in its normal form); the longest rule that fits counts."""
        if domain in self._levels or domain.startswith("["):
            return self._levels.get(domain)
        while domain := domain.partition(".")[2]:
            if (level := self._levels.get(f".{domain}")) is not None:
                return level
        return None


def choose_tls(
    hop: Hop, own: str | None, policy: Policy | None, *, requiretls: bool = False
) -> TLSChoice:
    """
    Choose the level for a host of a domain that has this rule of ours and this MTA-STS policy.

    ``requiretls``: DNSSEC or MTA-STS must say that the host belongs to the domain, and its
    certificate must be verified (RFC 8689 §4.2.1).
    """
    if own is not None:
        choice = TLSChoice(replace(hop, level=own), "own rule")
    elif policy is not None and policy.mode == ENFORCE and not policy.fits(hop.host):
        return TLSChoice(hop, "MTA-STS", unfit=_not_named(hop.host))
    elif policy is not None and policy.mode == ENFORCE:
        choice = TLSChoice(replace(hop, level=VERIFY), "MTA-STS")
    else:
        choice = TLSChoice(replace(hop, level=OPPORTUNISTIC), note=_note(hop, policy))
    if not requiretls:
        return choice
    named = policy is not None and policy.mode == ENFORCE and policy.fits(hop.host)
    if not named and not hop.secure:
        return replace(choice, because="REQUIRETLS", unfit=_not_secure(hop.host))
    return replace(choice, hop=replace(hop, level=VERIFY), because="REQUIRETLS")


def _note(hop: Hop, policy: Policy | None) -> str:
    if policy is None or policy.mode == NONE or policy.fits(hop.host):
        return ""
    return f"{hop.host} is not in the domain's MTA-STS policy, which is only tested"


def _not_named(host: str) -> PeerReply:
    text = f"{host} is not in the domain's MTA-STS policy, which is enforced"
    return PeerReply(451, "4.7.5", text, "tls")


def _not_secure(host: str) -> PeerReply:
    text = f"REQUIRETLS: neither DNSSEC nor MTA-STS says that {host} takes mail for the domain"
    return PeerReply(550, "5.7.30", text, "tls")
