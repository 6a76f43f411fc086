"""Files that appear under their name whole or not at all.  Plain functions; they block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def replacing(
    path: str, part: str, create: Callable[[str], int], *, sync: bool = True
) -> Iterator[int]:
    """
    A file to be written, which takes the name ``path`` when it is whole.

    Until then its name is ``part``, under which ``create`` opens it; where
    writing fails, it is removed.  Its octets are durable before it gets its
    name, unless ``sync`` is False; the name is durable when its folder is.
    """
    fd = create(part)
    try:
        yield fd
        if sync:
            os.fsync(fd)
        os.rename(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    finally:
        os.close(fd)
