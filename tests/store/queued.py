"""Messages in the queue of a store on disk: how tests put them there and read them."""

from __future__ import annotations

import gc
import os
from datetime import UTC, datetime

from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope
from postoffice.model.errors import TemporaryFailure
from postoffice.model.queued_message import QueuedRecipient
from postoffice.testing import finish

FAR, AWAY = "far@example.org", "away@example.com"
SMALL, LARGE = b"small\r\n", b"large\r\n" * 2000


def envelope(local=(), remote=(FAR,), sender="ann@example.net") -> Envelope:
    parsed = Address.parse(sender) if sender else None
    letter = Envelope("id.1", Client(), sender=parsed)
    for name in local:
        letter.add_recipients(
            Address.parse(name), [Account(name, name, quota=Quota(0, 0, "reject"))]
        )
    for name in remote:
        letter.add_recipients(Address.parse(name), [], [QueuedRecipient(address=name)])
    return letter


def begun(store, letter: Envelope, text: bytes):
    delivery = finish(store.begin(letter))
    try:
        finish(delivery.write(letter.trace("mail.example.net", datetime.now(UTC))))
        for start in range(0, len(text), 1500):
            finish(delivery.write(text[start : start + 1500]))
    except TemporaryFailure:
        delivery.abort()
        raise
    return delivery


def posted(store, letter: Envelope, text: bytes = SMALL) -> str:
    finish(begun(store, letter, text).commit())
    return finish(store.queue.names())[-1]


def text_of(store, name: str) -> bytes:
    text = finish(store.queue.text(name))
    octets = b""
    while piece := finish(text.read()):
        octets += piece
    text.close()
    return octets


def leftovers(root) -> list[str]:
    """What no message needs."""
    return [
        str(path.relative_to(root))
        for folder in ("messages/tmp", "marks/tmp", "intents")
        for path in root.glob(f".queue/{folder}/*")
    ]


def open_files() -> int:
    """How many files this process has open."""
    gc.collect(0)
    return len(os.listdir("/proc/self/fd"))
