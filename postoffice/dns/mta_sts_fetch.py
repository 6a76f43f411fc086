"""Fetches MTA-STS policies over HTTPS (RFC 8461 §3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet import defer
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from postoffice.dns.addresses import look_up
from postoffice.model.dns_answer import Ask
from postoffice.outbound.mail_hosts import choose
from postoffice.outbound.mta_sts import MOST, BadPolicy, Policy, read_policy
from postoffice.util.reactor import IReactor

#: Seconds for one fetch in all, addresses that are tried, and octets of a response at most.
LIMIT, ADDRESSES, RESPONSE = 60, 2, MOST + (16 << 10)
PATH = "/.well-known/mta-sts.txt"


class PolicyUnavailable(Exception):
    """A policy cannot be fetched; the text says why."""


class PolicyFetcher:
    """
    Fetches policies; certificates must fit, and redirects are not followed.

    ``usable`` says whether to connect to an address, as users may name any domain.
    ``ca`` is a PEM file of authorities that are trusted beside the system's.
    """

    def __init__(
        self,
        reactor: IReactor,
        ask: Ask,
        usable: Callable[[str], bool],
        *,
        clock: IReactorTime | None = None,
        ca: str | None = None,
        port: int = 443,
    ) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = clock or reactor
        self._ask = ask
        self._usable = usable
        self._trusted = _TrustRoot(ca)
        self._port = port

    async def fetch(self, domain: str, id: str) -> Policy:  # noqa: A002
        """Fetch the policy that has this id.  Raises PolicyUnavailable."""
        fetching = Deferred.fromCoroutine(self._fetch(f"mta-sts.{domain}"))
        try:
            return read_policy(await fetching.addTimeout(LIMIT, self._clock), id)
        except BadPolicy as error:
            raise PolicyUnavailable(f"it cannot be read: {error}") from error
        except defer.TimeoutError as error:
            raise PolicyUnavailable(f"timed out after {LIMIT} s") from error

    async def _fetch(self, host: str) -> bytes:
        found = await look_up(self._ask, host, (4, 6))
        usable = [address for address in found.addresses if self._usable(address)]
        failure = PolicyUnavailable(", ".join(found.failures) or f"{host} has no usable address")
        for _, address in choose([(host, usable)], (4, 6), ADDRESSES):
            try:
                return await self._get(host, address)
            except PolicyUnavailable:
                raise
            except Exception as error:  # of the network, TLS, or Twisted's HTTP
                cause = _cause(error)
                if isinstance(cause, (CancelledError, ConnectingCancelledError)):
                    raise CancelledError from error
                failure = PolicyUnavailable(f"{host} ({address}): {_words(cause)}")
        raise failure

    async def _get(self, host: str, address: str) -> bytes:
        options = optionsForClientTLS(host, self._trusted)
        endpoint = _OneAddress(self._reactor, address, self._port, options)
        agent = Agent.usingEndpointFactory(self._reactor, endpoint)  # type: ignore[no-untyped-call]
        try:
            response = await agent.request(b"GET", f"https://{host}{PATH}".encode("ascii"))
            _check(response)
            body = _Body()
            response.deliverBody(body)
            return await body.done
        finally:
            endpoint.close()


def _check(response: IResponse) -> None:
    if response.code != 200:
        raise PolicyUnavailable(f"HTTP status {response.code}")
    [kind] = response.headers.getRawHeaders("content-type", ["nothing"])[:1]
    if kind.partition(";")[0].strip().lower() != "text/plain":
        raise PolicyUnavailable(f"its type is {kind[:80]}, not text/plain")


class _Body(Protocol):
    """Collects a body, whose size ``_Bounded`` limits."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._octets: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._octets.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if isinstance(reason.value, (ResponseDone, PotentialDataLoss)):
            self.done.callback(b"".join(self._octets))
        else:
            self.done.errback(reason)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _OneAddress:
    """An endpoint for Twisted's agent: TLS to one address, and at most ``RESPONSE`` octets."""

    def __init__(self, reactor: IReactor, address: str, port: int, options: Any) -> None:
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        self._endpoint = wrapClientTLS(options, kind(reactor, address, port))
        self._connection: _Bounded | None = None

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        factory.noisy = False  # or each fetch would be in the log twice
        bounded = WrappingFactory(factory)  # type: ignore[no-untyped-call]
        bounded.protocol = _Bounded
        bounded.noisy = False
        return self._endpoint.connect(bounded).addCallback(self._connected)

    def _connected(self, connection: Any) -> Any:
        self._connection = connection
        return connection.wrappedProtocol

    def close(self) -> None:
        if self._connection is not None:
            self._connection.abort()


class _Bounded(ProtocolWrapper):
    _left = RESPONSE

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.abort()
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Close the connection at once."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


@implementer(IOpenSSLTrustRoot)
class _TrustRoot:
    """The system's authorities, and more."""

    def __init__(self, ca: str | None) -> None:
        self._ca = ca

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        """Called by Twisted, which has no public way to trust more than the system does."""
        context.set_default_verify_paths()
        if self._ca is not None:
            context.load_verify_locations(self._ca)


def _cause(error: BaseException) -> BaseException:
    """The cause of an error, which Twisted hides in ResponseFailed."""
    while isinstance(error, ResponseFailed) and error.reasons:
        error = error.reasons[0].value
    return error


def _words(error: BaseException) -> str:
    if isinstance(error, SSL.Error):
        return "TLS failed: " + ", ".join(one[-1] for one in error.args[0] or [("closed",)])
    return f"{type(error).__name__} {error}".strip()
