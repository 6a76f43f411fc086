"""A store without a journal, and what lies in its folders."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish

JOE, ANN = "joe@example.net", "ann@example.net"


def started(root) -> MaildirStore:
    store = MaildirStore(
        str(root),
        ImmediateExecutor(),
        hostname="mail.example.net",
        clock=Clock(),
        durability="files",
    )
    finish(store.start())
    return store


def post(store, text: bytes, *names: str) -> None:
    recipients = [Recipient(Address.parse(name), Account(name, name)) for name in names]
    delivery = finish(store.begin(Envelope("id.1", Client(), recipients=recipients)))
    try:
        for start in range(0, len(text), 100_000):
            finish(delivery.write(text[start : start + 100_000]))
        finish(delivery.commit())
    finally:
        delivery.abort()


def opened(store, name=JOE):
    maildrop = store.maildrop(name)
    return maildrop, finish(maildrop.open()).entries


def read(maildrop, entry) -> bytes:
    text = finish(maildrop.fetch(entry))
    octets = read_out(text)
    text.close()
    return octets


def read_out(text) -> bytes:
    octets = b""
    while piece := finish(text.read()):
        octets += piece
    return octets


def read_all(store, name=JOE) -> list[bytes]:
    maildrop, entries = opened(store, name)
    texts = [read(maildrop, entry) for entry in entries]
    assert [len(text) for text in texts] == [entry.size for entry in entries]
    maildrop.release()
    return texts


def place_of(path, dir_fd=None) -> str:
    """Where an os function acts: its path made whole, or that of its open file."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else "", path)


def tree(root: Path) -> set[str]:
    """All files below a folder, but locks and the journal."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.name != "postoffice.lock" and ".journal" not in path.parts
    }


INTERNATIONAL = "Subject: ü\n\nü\n".encode()


def age(folder: Path) -> None:
    """Make a maildrop look as if nothing had happened for a while."""
    for box in ("new", "cur"):
        os.utime(folder / box, (1_700_000_000, 1_700_000_000))
