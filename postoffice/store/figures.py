"""What a store counts of its own work, for monitoring."""

from __future__ import annotations

from postoffice.interfaces import ChildProcess
from postoffice.store.store_process import StoreProcess
from postoffice.store.sweep import Sweep
from postoffice.util.histogram import Histogram


class StoreFigures:
    """
    Counts of one store since its start.

    ``batches`` counts messages in each batch that was committed, ``seconds`` how long a batch
    took; ``octets`` were committed, and ``failed`` batches were not.  ``checkpoints`` are those of
    this process, the last at ``checkpointed`` (Unix time, 0: none yet).
    ``sweep`` counts the maildrops, once a day.
    ``process`` is the store process, if this store may have one.
    """

    def __init__(self) -> None:
        self.batches = Histogram((1, 2, 4, 8, 16, 32))
        self.seconds = Histogram()
        self.octets = 0
        self.failed = 0
        self.checkpoints = 0
        self.checkpoints_failed = 0
        self.checkpointed = 0.0
        self.sweep: Sweep | None = None
        self.process: ChildProcess[StoreProcess] | None = None
