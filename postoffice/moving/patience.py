"""How long to wait for an old server that refuses for the moment, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass

from postoffice.pop3.client_reply import COMMAND, IN_USE, LOGIN_DELAY, TEMPORARY, ClientReply

#: Seconds to wait, by the server's code; without one they double from FIRST up to MOST.
WAITS = {IN_USE: 30.0, TEMPORARY: 60.0, LOGIN_DELAY: 60.0}
FIRST, MOST = 5.0, 300.0
#: A session that was cut in its middle begins again sooner.
CUT = 1.0


@dataclass
class Patience:
    """
    Counts the seconds that were waited without any message in between; over ``limit`` is the end.

    ``between`` is the LOGIN-DELAY that the server told us (RFC 2449 §6.5).
    """

    limit: float
    between: float = 0.0
    waited: float = 0.0
    tries: int = 0

    def progressed(self) -> None:
        """A message has arrived: begin to count again."""
        self.waited, self.tries = 0.0, 0

    def next_wait(self, why: ClientReply) -> float | None:
        """Seconds to wait after a failure; None if it would be too long, or makes no sense."""
        if not why.temporary:
            return None
        first = CUT if why.phase == COMMAND else FIRST
        seconds = WAITS.get(why.code, min(first * 2.0**self.tries, MOST))
        seconds = max(seconds, self.between)
        if self.waited + seconds > self.limit:
            return None
        self.tries += 1
        self.waited += seconds
        return seconds
