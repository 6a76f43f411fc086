"""The folders of a store: those of its domains, and of the maildrops in them.  Blocking."""

from __future__ import annotations

import os
from contextlib import suppress

from postoffice.store.files import FOLDERS


def domains(store: str) -> list[str]:
    """The folders of all domains."""
    return subfolders(store)


def maildrops(store: str) -> list[str]:
    """The folders of all maildrops, and links to maildrops: clients log in to these as well."""
    found = []
    for domain in domains(store):
        with suppress(OSError):  # skip a domain that cannot be read
            found += maildrops_of(domain)
    return found


def maildrops_of(domain: str) -> list[str]:
    """The folders of all maildrops in the folder of a domain, and links to maildrops."""
    return subfolders(domain) + [path for path in links(domain) if _is_maildrop(path)]


def subfolders(path: str) -> list[str]:
    """The folders in a folder, without links and names that begin with a dot."""
    return [item.path for item in _items(path) if item.is_dir(follow_symlinks=False)]


def links(path: str) -> list[str]:
    """The links in a folder, without names that begin with a dot."""
    return [item.path for item in _items(path) if item.is_symlink()]


def _is_maildrop(path: str) -> bool:
    return all(os.path.isdir(f"{path}/{box}") for box in FOLDERS)


def _items(path: str) -> list[os.DirEntry[str]]:
    with suppress(FileNotFoundError, PermissionError), os.scandir(path) as items:
        return [item for item in items if not item.name.startswith(".")]
    return []
