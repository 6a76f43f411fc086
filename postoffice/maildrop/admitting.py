"""Whether there is room in a maildrop, before a message comes."""

from __future__ import annotations

import os

from postoffice.address import Quota
from postoffice.maildrop import quota
from postoffice.maildrop.files import failures


def admits(folder: str, limit: Quota, size: int) -> bool:
    """
    Whether a message of that size fits, as far as it is known; where room is made, if it can be.

    Raises TemporaryFailure.
    """
    if limit.over == "make-room":
        return limit.holds(size, 1)
    with failures(folder):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return quota.has_room(fd, limit, quota.Usage(size, 1))[0]
            finally:
                os.close(fd)
        except FileNotFoundError:  # it was never used, or somebody is just making it
            return limit.holds(size, 1)
