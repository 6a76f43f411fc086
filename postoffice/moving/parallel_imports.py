"""Several imports at once, on threads of their own.  It blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from postoffice.moving.old_server_sessions import Stop

#: Seconds after which the caller looks up, so that a signal is taken.
LOOK = 0.5


def run_all(
    jobs: Sequence[Callable[[], None]],
    parallel: int,
    stop: Stop,
    step: Callable[[], object] = lambda: None,
) -> None:
    """
    Run all jobs, so many at once, and call ``step`` on this thread now and then.

    A job handles its own failures.  Ctrl-C sets ``stop`` and waits until the jobs have ended.
    """
    with ThreadPoolExecutor(max(1, min(parallel, len(jobs)))) as threads:
        left = {threads.submit(job) for job in jobs}
        while left:
            try:
                done, left = wait(left, LOOK, FIRST_COMPLETED)
                for one in done:
                    one.result()
                step()
            except KeyboardInterrupt:
                stop.set()
