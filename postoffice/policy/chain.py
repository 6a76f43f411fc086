"""Asks the policies in their order, each with a deadline, and handles their failures."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.interfaces import Fields, IPolicy, IText, Opinion
from postoffice.model import log_events
from postoffice.model.envelope import Envelope, Recipient, SessionInfo
from postoffice.model.errors import PostOfficeError, TemporaryFailure
from postoffice.model.log_event import tell, tell_failure
from postoffice.model.reply import POLICY_LATER, Reply

log = Logger("postoffice")

#: The stages at which policies are asked, in this order.
STAGES = ("connect", "hello", "sender", "recipient", "text")
#: Octets of the fields that one policy may add at once.
FIELDS_MAXIMUM = 64 << 10
_FIELDS = re.compile(rb"(?:[!-9;-~]+:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)*\Z")


@dataclass(frozen=True)
class ChainedPolicy:
    """
    A policy, and how it is asked.

    ``name`` is its name in the log.  It is asked on these ``services``.  If it fails, or
    does not answer within ``timeout`` seconds, ``on_failure`` is the answer: accept, or
    defer (try again later).
    """

    policy: IPolicy
    name: str
    services: frozenset[str]
    timeout: float = 10.0
    on_failure: str = "accept"

    def at(self, stage: str, service: str) -> bool:
        """Whether the policy is asked at this stage on this service."""
        return service in self.services and stage in self.policy.stages


class PolicyChain:
    """Asks the policies in their order, until one of them refuses."""

    def __init__(
        self, asked: Sequence[ChainedPolicy] = (), clock: IReactorTime | None = None
    ) -> None:
        self._asked = tuple(asked)
        self._clock = clock

    def asks(self, stage: str, service: str) -> bool:
        """Whether any policy is asked at this stage on this service."""
        return bool(self._asked) and any(one.at(stage, service) for one in self._asked)

    async def connect(self, session_info: SessionInfo) -> Reply | None:
        """None, or a refusal of the client; fields are added to ``session_info.fields``."""
        return await self._ask("connect", session_info, lambda one: one.connect(session_info))

    async def hello(self, session_info: SessionInfo) -> Reply | None:
        """None, or a refusal; fields are added to ``session_info.fields``."""
        return await self._ask("hello", session_info, lambda one: one.hello(session_info))

    async def sender(self, envelope: Envelope) -> Reply | None:
        """None, or a refusal; fields are added to ``envelope.fields``."""
        return await self._ask("sender", envelope, lambda one: one.sender(envelope))

    async def recipient(self, envelope: Envelope, recipient: Recipient) -> Reply | None:
        """None, or a refusal; fields are added to ``envelope.fields``."""
        return await self._ask(
            "recipient", envelope, lambda one: one.recipient(envelope, recipient)
        )

    async def text(
        self, envelope: Envelope, open_text: Callable[[], Awaitable[IText]]
    ) -> tuple[Reply | None, bytes]:
        """None or a refusal, and the fields to add; each policy reads the whole text."""

        async def judge(policy: IPolicy) -> Opinion:
            text = await open_text()
            try:
                return await policy.text(envelope, text)
            finally:
                text.close()

        fields: list[bytes] = []
        refusal = await self._ask("text", envelope, judge, fields)
        return refusal, b"".join(fields)

    async def _ask(
        self,
        stage: str,
        who: SessionInfo | Envelope,
        ask: Callable[[IPolicy], Awaitable[Opinion]],
        fields: list[bytes] | None = None,
    ) -> Reply | None:
        fields = who.fields if fields is None else fields
        for one in self._asked:
            if not one.at(stage, who.service):
                continue
            opinion = await self._opinion(one, who, ask)
            if isinstance(opinion, Fields):
                fields.append(opinion.octets)
            elif opinion is not None:
                tell(log, log_events.POLICY_REFUSED, **_facts(one, who), reply=opinion.log_text)
                return opinion
        return None

    async def _opinion(
        self,
        one: ChainedPolicy,
        who: SessionInfo | Envelope,
        ask: Callable[[IPolicy], Awaitable[Opinion]],
    ) -> Opinion:
        """The opinion of a policy, or its ``on_failure`` if it fails."""
        try:
            opinion = _checked(await self._in_time(ask(one.policy), one.timeout))
        except CancelledError:  # the client has gone
            raise
        except (defer.TimeoutError, TimeoutError, PostOfficeError) as error:
            why = str(error) or type(error).__name__
            tell(log, log_events.POLICY_FAILED, **_facts(one, who), why=why)
        except Exception:
            tell_failure(log, log_events.FAULT, **_facts(one, who))
        else:
            return opinion
        return POLICY_LATER if one.on_failure == "defer" else None

    async def _in_time(self, answer: Awaitable[Opinion], seconds: float) -> Opinion:
        """Wait for an answer at most ``seconds``, then cancel it.  Raises TemporaryFailure."""
        assert self._clock is not None, "policies need a clock"
        asked: Deferred[Opinion] = (
            answer if isinstance(answer, Deferred) else ensureDeferred(_awaited(answer))
        )
        given_up = False

        def give_up(_: Deferred[Opinion]) -> None:
            nonlocal given_up
            given_up = True
            asked.cancel()

        def answered(outcome: Opinion | Failure) -> None:
            cancelled = isinstance(outcome, Failure) and isinstance(outcome.value, CancelledError)
            if waiting.called:
                return
            if cancelled and not given_up:
                waiting.errback(TemporaryFailure("it cancelled its own work"))
            else:
                waiting.callback(outcome)

        waiting: Deferred[Opinion] = Deferred(give_up)

        asked.addBoth(answered)
        if not waiting.called:
            waiting.addTimeout(seconds, self._clock, _too_late)
        opinion: Opinion = await waiting
        return opinion


def _facts(one: ChainedPolicy, who: SessionInfo | Envelope) -> dict[str, object]:
    """The log fields of every event of a policy."""
    client = who.client.address or "local"
    return {"id": who.id, "service": who.service, "client": client, "policy": one.name}


def _too_late(_: object, seconds: float) -> None:
    raise TemporaryFailure(f"no answer within {seconds:g} s")


async def _awaited(answer: Awaitable[Opinion]) -> Opinion:
    return await answer


def _checked(opinion: Opinion) -> Opinion:
    """Check an opinion; a refusal gets a status (RFC 2034 §4).  Raises ValueError, TypeError."""
    if isinstance(opinion, Fields):
        octets = opinion.octets
        if len(octets) > FIELDS_MAXIMUM or b"\0" in octets or not _FIELDS.match(octets):
            raise ValueError("the policy added fields that are not header fields")
        octets.decode("utf-8")
    elif isinstance(opinion, Reply):
        if not 400 <= opinion.code <= 599:
            raise ValueError(f"a policy may not say {opinion.code}")
        kind = opinion.code // 100
        if not re.fullmatch(rf"{kind}\.[0-9]{{1,3}}\.[0-9]{{1,3}}", opinion.status):
            return replace(opinion, status=f"{kind}.7.1")
    elif opinion is not None:
        raise TypeError(f"{opinion!r} is no opinion")
    return opinion
