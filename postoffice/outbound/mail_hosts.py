"""Rules for the hosts that take a domain's mail, and their addresses (RFC 5321 §5.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from itertools import chain, groupby, zip_longest

from postoffice.model.hop import PeerReply
from postoffice.util.networks import Network, within

#: Hosts of a domain that are considered, and addresses that are tried.
HOSTS, ADDRESSES = 20, 5
#: Where IPv4 addresses stand within IPv6 for hosts that have only IPv6 (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")
_LITERAL = re.compile(r"\[(?:IPv6:)?([0-9a-f.:]+)\]\Z", re.IGNORECASE)
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\Z")
#: Names that mean this machine or nothing, everywhere (RFC 6761, RFC 7686).
_SPECIAL = ("localhost", "localdomain", "invalid", "onion")

#: The status of a domain that takes no mail (RFC 7505 §4.2).
NULL_MX = "5.1.10"

Shuffle = Callable[[list[str]], None]


class NoMailHosts(Exception):
    """
    A domain's mail cannot be sent to any host; ``reply`` says why, and whether for good.

    ``loops``: this machine is the best host of the domain, but does not take its mail.  That is
    often a mistake that is soon mended: the reply is temporary, and the caller decides how long
    the mail is tried.
    """

    def __init__(self, code: int, status: str, text: str, *, loops: bool = False) -> None:
        super().__init__(text)
        self.reply = PeerReply(code, status, text, "dns")
        self.loops = loops


@dataclass(frozen=True, slots=True, kw_only=True)
class MailHosts:
    """
    The hosts of a domain, in the order in which they are tried: groups of equal preference.

    ``address`` is that of an address literal, or "".  ``secure``: DNSSEC has validated that these
    are the hosts (RFC 7672 §2.2.1).
    """

    domain: str
    groups: tuple[tuple[str, ...], ...]
    address: str = ""
    secure: bool = False

    @property
    def site(self) -> tuple[str, ...]:
        """The names of all hosts, sorted: domains that have the same hosts are one destination."""
        return tuple(sorted(chain.from_iterable(self.groups)))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRules:
    """
    Which hosts and addresses may be used.

    ``own_names`` (in lower case) and ``own_addresses`` are this machine's.  ``families`` are the
    versions of IP that may be used, the preferred one first.  Addresses of private networks
    may be used with ``private``, those in ``allowed`` always.
    """

    own_names: Collection[str] = frozenset()
    own_addresses: Collection[str] = frozenset()
    families: Sequence[int] = (4, 6)
    private: bool = False
    allowed: Sequence[Network] = ()

    def usable(self, address: str) -> bool:
        """
        Whether mail may be sent to an address that a name server or a sender names.

        Not to this machine, to a multicast address, or to machines beside us: otherwise every user
        could make us connect to them.
        """
        found = ip_address(address)
        if within(address, self.allowed):
            return found.version in self.families
        return found.version in self.families and _reachable(found, self.private)


def _reachable(address: IPv4Address | IPv6Address, private: bool) -> bool:
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return _reachable(IPv4Address(int(address) & 0xFFFFFFFF), private)
        if address.ipv4_mapped is not None or address.is_site_local:
            return False
    elif int(address) < 1 << 24:  # 0.0.0.0/8 is this machine
        return False
    never = (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
        or address.is_reserved
    )
    return not never and (private or address.is_global)


def read_literal(domain: str, rules: HostRules) -> MailHosts | None:
    """The host of an address literal; None if the domain is not one.  Raises NoMailHosts."""
    if not domain.startswith("["):
        return None
    found = _LITERAL.match(domain)
    try:
        address = str(ip_address(found[1] if found else ""))
    except ValueError:
        raise NoMailHosts(550, "5.1.2", f"{domain} is no address") from None
    if address in rules.own_addresses:
        raise loops(domain)
    if not rules.usable(address):
        raise NoMailHosts(550, "5.1.2", f"{domain} is no address to which we may send mail")
    return MailHosts(domain=domain, groups=((domain,),), address=address)


def check_domain(domain: str) -> None:
    """Raise NoMailHosts for a special domain, about which no name server is asked."""
    if domain.rpartition(".")[2] in _SPECIAL:
        raise no_such_domain(domain)


def rank(
    domain: str, records: Sequence[tuple[int, str]], rules: HostRules, shuffle: Shuffle
) -> tuple[tuple[str, ...], ...]:
    """
    Sort the hosts of MX records by preference, in random order within each.

    If this machine is one of them, it and all that are not better are left out (RFC 5321 §5.1).
    Raises NoMailHosts if none is left.
    """
    if all(name == "" for _, name in records):
        raise NoMailHosts(556, NULL_MX, f"{domain} takes no mail (null MX)")
    # if a host is named twice, its better preference counts
    best = {name: preference for preference, name in sorted(records, reverse=True)}
    usable = sorted((preference, name) for name, preference in best.items() if _is_host(name))
    if not usable:
        raise NoMailHosts(550, "5.4.4", f"the MX records of {domain} name no host")
    ours = min((best[name] for name in rules.own_names if name in best), default=1 << 16)
    groups, left = [], HOSTS
    for _, group in groupby((one for one in usable if one[0] < ours), lambda one: one[0]):
        names = [name for _, name in group]
        shuffle(names)
        if left > 0:
            groups.append(tuple(names[:left]))
            left -= len(names)
    if not groups:
        raise loops(domain)
    return tuple(groups)


def _is_host(name: str) -> bool:
    return bool(_HOST_NAME.match(name)) and name.rpartition(".")[2] not in _SPECIAL


def choose(
    found: Sequence[tuple[str, Sequence[str]]], families: Sequence[int], most: int = ADDRESSES
) -> list[tuple[str, str]]:
    """
    Choose the addresses to try, in the order of the hosts: at most ``most`` (host, address).

    The families of each host take turns.  If hosts have both, neither family takes all places: so
    hosts can be reached although IPv6 (or IPv4) does not work from here.
    """
    ranked = [
        (host, address) for host, addresses in found for address in _turns(addresses, families)
    ]
    by_family = {
        family: sum(_version(address) == family for _, address in ranked) for family in families
    }
    places = {
        family: most - min(most // 2, sum(by_family.values()) - by_family[family])
        for family in families
    }
    chosen: list[tuple[str, str]] = []
    for host, address in ranked:
        if places[_version(address)] > 0 and len(chosen) < most:
            places[_version(address)] -= 1
            chosen.append((host, address))
    return chosen


def _turns(addresses: Sequence[str], families: Sequence[int]) -> list[str]:
    of_each = ([one for one in addresses if _version(one) == family] for family in families)
    return [one for turn in zip_longest(*of_each) for one in turn if one is not None]


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def no_such_domain(domain: str) -> NoMailHosts:
    """The domain does not exist."""
    return NoMailHosts(550, "5.1.2", f"the domain {domain} does not exist")


def no_address(domain: str) -> NoMailHosts:
    """The domain, or its hosts, have no address that can be used."""
    return NoMailHosts(550, "5.4.4", f"no host that takes mail for {domain} has a usable address")


def unavailable(domain: str, why: object) -> NoMailHosts:
    """The name servers gave no answer."""
    return NoMailHosts(451, "4.4.3", f"looking up the hosts of {domain} failed: {why}")


def loops(domain: str) -> NoMailHosts:
    """The best host is this machine."""
    text = f"mail for {domain} loops back to this machine, which does not take it"
    return NoMailHosts(451, "4.4.6", text, loops=True)
