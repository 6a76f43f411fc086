"""The questions of a session: what it must know before it can go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

A = TypeVar("A")


class Question(Generic[A]):
    """
    A question of a session; ``A`` is the type of its answer.

    Instead of an answer, a failure (PostOfficeError) can be given to every question.
    """

    __slots__ = ()


@dataclass(slots=True)
class Secure(Question[None]):
    """Can TLS begin?"""


@dataclass(slots=True)
class Yield(Question[None]):
    """
    May the session go on?  It is answered when it is the session's turn again.

    ``steps`` is how many commands the session has answered by itself with little
    output; 0 if it yields because of much output.
    """

    steps: int = 0
