"""The destinations of the queue, as an administrator sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from postoffice.queue.destinations import Lane, Site


def describe(
    sites: Iterable[Site], lanes: Iterable[Lane], waiting: Mapping[str, int], paused: set[str]
) -> list[dict[str, object]]:
    """
    Describe the destinations: state, connections, what waits, the next probe, the last reply.

    ``waiting`` is how many messages wait in each lane, ``paused`` are the lanes that are paused.
    """
    found: list[dict[str, object]] = []
    known: set[str] = set()
    lanes = list(lanes)
    for site in sites:
        its = {lane.key for lane in lanes if lane.site is site} | site.parked
        known |= its
        found.append(
            {
                "destination": site.name,
                "state": "unreachable" if site.failures else "reachable",
                "connections": site.connections,
                "waiting": sum(waiting.get(key, 0) for key in its),
                "probe": site.probe if site.failures else None,
                "reply": site.reply.text if site.reply else "",
            }
        )
    for key in sorted(waiting.keys() - known):
        state = "paused" if key in paused else "waiting"
        found.append({"destination": key, "state": state, "connections": 0,
                      "waiting": waiting[key], "probe": None, "reply": ""})  # fmt: skip
    return found
