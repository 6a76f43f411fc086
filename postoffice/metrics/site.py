"""
The pages for monitoring: /metrics, /live and /ready, on a listener of their own.

A scrape is rendered at most once a second, whoever asks how often; connections, requests and
times are bounded, so that nobody who reaches this port can hurt mail.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import NoResource, Resource
from twisted.web.server import Request, Site

#: Connections at once, seconds that one may be silent, and octets of a request's body.
CONNECTIONS, TIMEOUT, BODY = 16, 30.0, 1024
#: Seconds for which a rendered text is used again.
FRESH = 1.0


class _Request(Request):
    """A request whose body nobody reads: it is not kept, and must be short."""

    _body = 0

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._body += len(data)
        if self._body > BODY:
            transport: Any = self.channel.transport
            transport.abortConnection()


class MonitoringFactory(WrappingFactory):
    """
    The factory of the listener.

    ``text`` renders all metrics, ``ready`` says whether clients are served.
    """

    noisy = False

    def __init__(
        self,
        text: Callable[[], bytes],
        content_type: bytes,
        ready: Callable[[], bool],
        clock: IReactorTime,
    ) -> None:
        root = Resource()  # type: ignore[no-untyped-call]
        root.putChild(b"metrics", _Metrics(text, content_type, clock))
        root.putChild(b"live", _Status(lambda: True))
        root.putChild(b"ready", _Status(ready))
        make: Any = _Site
        site = make(root, requestFactory=_Request, timeout=TIMEOUT, reactor=clock)
        super().__init__(site)  # type: ignore[no-untyped-call]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if len(self.protocols) >= CONNECTIONS:
            return None  # the connection is closed at once
        return super().buildProtocol(addr)

    def close(self) -> None:
        """Close all connections."""
        for wrapper in list(self.protocols):
            wrapper.transport.abortConnection()


class _Site(Site):
    noisy = False

    def log(self, request: Any) -> None:
        """Scrapes are not logged."""


class _Page(Resource):
    """A page that is the same for everybody."""

    def render_GET(self, request: Request) -> bytes:
        status, content_type, body = self.answer()
        request.setResponseCode(status)
        request.setHeader(b"content-type", content_type)  # type: ignore[no-untyped-call]
        request.setHeader(b"cache-control", b"no-store")  # type: ignore[no-untyped-call]
        request.setHeader(b"x-content-type-options", b"nosniff")  # type: ignore[no-untyped-call]
        return body

    def getChild(self, path: bytes, request: Request) -> Resource:
        return NoResource()

    def answer(self) -> tuple[int, bytes, bytes]:
        """Status, content type and body."""
        raise NotImplementedError


class _Status(_Page):
    def __init__(self, well: Callable[[], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._well = well

    def answer(self) -> tuple[int, bytes, bytes]:
        well = self._well()
        return (
            200 if well else 503,
            b"text/plain; charset=utf-8",
            b"ok\n" if well else b"not ready\n",
        )


class _Metrics(_Page):
    def __init__(self, text: Callable[[], bytes], content_type: bytes, clock: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._text = text
        self._type = content_type
        self._clock = clock
        self._until = 0.0
        self._last = b""

    def answer(self) -> tuple[int, bytes, bytes]:
        now = self._clock.seconds()
        if now >= self._until or not self._last:
            self._last, self._until = self._text(), now + FRESH
        return 200, self._type, self._last
