"""Questions to a reception, and their answers."""

from __future__ import annotations

from postoffice.model.address import Address
from postoffice.testing import finish

POSTMASTER = Address("postmaster", "example.net")


def ask(reception, envelope, text):
    return finish(reception.recipient(envelope, Address.parse(text) if text else None))


# -- quotas -----------------------------------------------------------------------------
JOE = "joe@example.net"
