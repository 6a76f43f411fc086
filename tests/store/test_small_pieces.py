"""What an attack on deliveries has found."""

from __future__ import annotations

import tracemalloc

from twisted.internet.task import Clock

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish


def test_a_text_in_pieces_of_two_octets_costs_little_more_than_its_octets(tmp_path):
    """Each piece had an object of its own: a client that sent them held 25 times their size."""
    store = MaildirStore(
        str(tmp_path / "store"), ImmediateExecutor(), hostname="mail.example.net", clock=Clock()
    )
    finish(store.start())
    joe = Recipient(Address("joe", "example.net"), Account("joe@example.net", "joe@example.net"))
    delivery = finish(store.begin(Envelope("id.1", Client(), recipients=[joe])))
    pieces = [bytes((97 + n % 26, 10)) for n in range(5_000)]
    tracemalloc.start()
    for piece in pieces:
        finish(delivery.write(bytes(memoryview(piece))))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 60_000
    text = finish(delivery.text())
    read = b""
    while octets := finish(text.read()):
        read += octets
    assert read == b"".join(pieces)
    text.close()
    delivery.abort()
    finish(store.stop())
