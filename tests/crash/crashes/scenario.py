"""A scenario: what is played in a store before it crashes, and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crashes.world import Era, Kind, World
from postoffice.store.journal.filesystem import FILES
from postoffice.store.journal.records import BLOCK

KEPT = Kind(undelete=86400.0)
TINY = Kind(segment=2 * BLOCK)
EACH = Kind(FILES)


@dataclass(frozen=True)
class Scenario:
    """What is played, in stores of some kinds; each of its variants is a play of its own."""

    play: Callable[[World, int], None]
    kinds: tuple[Kind, ...] = (Kind(),)
    variants: int = 1

    def recorded(self, folder: str, kind: Kind, variant: int) -> list[Era]:
        """Played once; the folder is new."""
        world = World(folder, kind)
        try:
            self.play(world, variant)
        finally:
            eras = world.close()
        return eras


SCENARIOS: dict[str, Scenario] = {}


def scenario(*kinds: Kind, variants: int = 1) -> Callable[[Callable[[World, int], None]], None]:
    """Put a function into the table; its name is the scenario's."""

    def put(play: Callable[[World, int], None]) -> None:
        name = play.__name__.strip("_").replace("_", "-")
        SCENARIOS[name] = Scenario(play, kinds or (Kind(),), variants)

    return put
