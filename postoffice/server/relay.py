"""
The way to other servers: routes, hosts, TLS and connections, as the queue needs them.

A way is the name of a route (``direct``, a smarthost's name, ``smtp:HOST:PORT``); it is part of
the names in ``queue.db``, and so has no spaces.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import quote

from twisted.logger import Logger

from postoffice.dns.mx_lookup import MXLookup
from postoffice.interfaces.relay import Plan, RelayConnection, SenderOf, Undeliverable
from postoffice.model import log_events
from postoffice.model.errors import TemporaryFailure
from postoffice.model.hop import NONE, OPPORTUNISTIC, VERIFY, Hop, PeerReply
from postoffice.model.log_event import tell
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.model.route import Direct, Host, Refuse, Route, Smarthost
from postoffice.outbound.mail_hosts import NoMailHosts
from postoffice.outbound.mta_sts import Policy
from postoffice.outbound.routes import Router
from postoffice.outbound.tls_policy import TLSRules, choose_tls
from postoffice.server.client_connection import (
    ClientConnection,
    ConnectFailed,
    ConnectOptions,
    HandshakeFailed,
    connect,
)
from postoffice.util.cache import Cache

#: Servers that answer and then refuse us, in one attempt.
REFUSALS = 2
#: Seconds for which a host whose TLS fails is spoken to in clear; and how many are remembered.
CLEAR, CLEAR_HOSTS = 3 * 86400.0, 10_000
#: Seconds after which a domain for which we are the best host is given up.
LOOPS = 4 * 3600.0
#: Behind the way of messages that may go over verified connections only (RFC 8689).
_SECURE = "+requiretls"

log = Logger("postoffice")

PolicyOf = Callable[[str], Awaitable[Policy | None]]


class OutboundRelay:
    """
    Sends by the routes of ``router``.

    ``policy_of`` returns the MTA-STS policy of a domain; ``sender_of`` the reverse-path with
    which a message is sent to a recipient.
    """

    def __init__(
        self,
        router: Router,
        mx: MXLookup,
        tls_rules: TLSRules,
        policy_of: PolicyOf,
        sender_of: SenderOf,
        options: ConnectOptions,
    ) -> None:
        self._router = router
        self._mx = mx
        self._tls_rules = tls_rules
        self._policy_of = policy_of
        self._options = options
        self._routes: dict[str, Route] = {}
        self._clear: Cache[str, bool] = Cache(CLEAR_HOSTS, options.reactor.seconds)
        self.sender: SenderOf = sender_of

    def way(self, message: QueuedMessage, recipient: QueuedRecipient) -> str:
        """Return the name of the way that the routes choose."""
        route = self._router.route(message.sender, recipient.address)
        name = _name(route)
        self._routes[name] = route
        return name + _SECURE if message.requiretls else name

    async def plan(self, way: str, domain: str) -> Plan:
        """Find the hosts for a domain.  Raises Undeliverable."""
        name = way.removesuffix(_SECURE)
        secure = name != way
        route = self._routes.get(name)
        if route is None:  # the configuration has changed; the next attempt asks it
            raise Undeliverable(PeerReply(0, "4.3.0", "the routes have changed", "route"))
        try:
            if isinstance(route, Refuse):
                raise Undeliverable(PeerReply(550, "5.7.1", route.words, "route"))
            if isinstance(route, Direct):
                return await self._direct(domain, secure=secure)
            return await self._fixed(way, route, secure=secure)
        except NoMailHosts as failure:
            after = LOOPS if failure.loops else None
            raise Undeliverable(failure.reply, after=after) from failure
        except TemporaryFailure as failure:
            reply = PeerReply(0, "4.3.0", str(failure), "dns")
            raise Undeliverable(reply) from failure

    async def _direct(self, domain: str, *, secure: bool) -> Plan:
        """The hosts that a domain names, as far as they fit the rules for its TLS."""
        hosts = await self._mx.hosts(domain)
        own = self._tls_rules.level(hosts.domain)
        policy = await self._policy_of(domain) if own is None or secure else None
        hops, unfit = [], None
        for hop in await self._mx.hops(hosts):
            choice = choose_tls(hop, own, policy, requiretls=secure)
            if choice.note:
                tell(log, log_events.POLICY_TESTED, to=domain, why=choice.note)
            if choice.unfit is None:
                hops.append(choice.hop)
            else:
                unfit = unfit or choice.unfit
        if not hops:
            assert unfit is not None, "a host is used unless it is unfit"
            raise Undeliverable(unfit)
        levels = sorted({hop.level for hop in hops} - {OPPORTUNISTIC})
        site = "+".join([",".join(hosts.site) or hosts.domain, *levels])
        return Plan(site + _SECURE * secure, tuple(hops), requiretls=secure)

    async def _fixed(self, name: str, route: Host | Smarthost, *, secure: bool) -> Plan:
        """The host of a route; it is secure because the administrator has chosen it."""
        if isinstance(route, Host) and not route.port:
            hop = Hop(host="localhost", address=route.host, port=0, lmtp=route.lmtp, level=NONE)
            return Plan(name, (hop,))
        hops = [replace(hop, chosen=True) for hop in await self._mx.fixed(route.host, route.port)]
        if isinstance(route, Host):
            rate, hops = None, [replace(hop, lmtp=route.lmtp) for hop in hops]
        else:
            rate, hops = route.rate, [_logged_in(hop, route) for hop in hops]
        if secure:
            hops = [replace(hop, level=VERIFY) for hop in hops]
        return Plan(name, tuple(hops), rate, requiretls=secure)

    async def connect(self, plan: Plan) -> RelayConnection:
        """Connect to the first host that can be used.  Raises Undeliverable."""
        last = None
        refusals = 0
        unsafe = plan.requiretls
        for hop in plan.hops:
            try:
                return await self._connect(hop)
            except ConnectFailed as failure:
                if failure.reply.ours:
                    raise Undeliverable(failure.reply) from failure
                unsafe = unsafe and failure.reply.phase == "tls"
                last = failure.reply if last is None or failure.reply.code else last
                refusals += bool(failure.reply.code)
                if refusals == REFUSALS:
                    break
        assert last is not None, "a plan has hops"
        if unsafe:  # it is returned at once, so that its sender knows (RFC 8689 §5)
            last = PeerReply(550, "5.7.30", f"REQUIRETLS: {last.text}", "tls")
        raise Undeliverable(last, unsafe=unsafe)

    async def _connect(self, hop: Hop) -> ClientConnection:
        """
        Connect to one host; in clear if its TLS fails, and nothing says that it must not.

        With a login it must not: an attacker who breaks TLS would get the password.
        """
        if hop.level != OPPORTUNISTIC or hop.login:
            return await connect(hop, self._options)
        if not self._clear.get(hop.address):
            try:
                return await connect(hop, self._options)
            except HandshakeFailed as failure:
                tell(log, log_events.TLS_BROKEN, via=hop.shown, why=failure.reply.text)
                self._clear.set(hop.address, True, CLEAR)
        return await connect(replace(hop, level=NONE), self._options)


def _logged_in(hop: Hop, smarthost: Smarthost) -> Hop:
    return replace(
        hop,
        level=smarthost.level,
        implicit=smarthost.implicit,
        login=smarthost.login,
        password=smarthost.password,
    )


def _name(route: Route) -> str:
    """The name of a route's way."""
    match route:
        case Direct():
            return "direct"
        case Smarthost():
            return quote(route.name)
        case Refuse():
            return f"refuse:{quote(route.words)}"
        case Host():
            kind = "lmtp" if route.lmtp else "smtp"
            return f"{kind}:{quote(route.host)}:{route.port}"
