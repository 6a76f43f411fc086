"""What stands in a post office that is backed up, and in its backup."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from postoffice.store import files

ANN, BOB, EVE = "ann@example.net", "bob@example.net", "eve@example.org"
FORMS = ("b.tar", "b.tar.gz", "b.tgz", "b.tar.bz2", "b.tar.xz", "b")


def name_of(number: int, size: int) -> str:
    return f"{1700000000 + number}.M000001P1Q1R{number:08x}.h,S={size},W={size}"


def put(folder: Path, number: int, text: bytes, box: str = "new", flags: str = "") -> Path:
    """A message in a maildrop."""
    folder.parent.parent.mkdir(exist_ok=True)
    files.make(str(folder))
    path = folder / box / (name_of(number, len(text)) + flags)
    path.write_bytes(text)
    os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))
    return path


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Each file of a store that is worth something, with its text and time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and ".journal" not in path.parts and "tmp" not in path.parts
    }


def rows(database: Path) -> list[str]:
    with sqlite3.connect(database) as it:
        return list(it.iterdump())


def restored(run, backup: str, to: str = "there") -> Path:
    run("restore", backup, "--config", f"{to}/postoffice.yaml", "--state", f"{to}-state")
    return Path(f"{to}-state").absolute()
