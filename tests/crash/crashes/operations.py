"""What a store does to a disk: the lines of a trace.  Files and folders are their inodes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Make:
    """A new file, or folder, under its first name."""

    folder: int
    name: str
    inode: int
    is_folder: bool = False


@dataclass(frozen=True)
class Write:
    """Octets, at a place in a file."""

    inode: int
    offset: int
    octets: bytes


@dataclass(frozen=True)
class Resize:
    """A file ends here now."""

    inode: int
    size: int


@dataclass(frozen=True)
class Link:
    """One more name of a file."""

    inode: int
    folder: int
    name: str


@dataclass(frozen=True)
class Unlink:
    """A name goes, of a file or of an empty folder."""

    folder: int
    name: str


@dataclass(frozen=True)
class Rename:
    """A name goes, and another comes: at once."""

    folder: int
    name: str
    to_folder: int
    to_name: str


@dataclass(frozen=True)
class Sync:
    """A file's octets, or a folder's names, are on the disk; or nobody knows what is (failed)."""

    inode: int
    path: str
    failed: bool = False


@dataclass(frozen=True)
class SyncAll:
    """All that was done is on the disk; or nobody knows what is (failed)."""

    failed: bool = False


@dataclass(frozen=True)
class Note:
    """Something that was said to a client, or seen by one: see promises.py."""

    what: str
    names: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()


Operation = Make | Write | Resize | Link | Unlink | Rename | Sync | SyncAll | Note
