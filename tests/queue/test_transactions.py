"""The transaction that carries a message to some of its recipients."""

from __future__ import annotations

import pytest

from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.queue.transactions import transaction_of
from postoffice.testing import finish
from tests.server.peers import Text

PLAIN = b"Subject: x\r\n\r\ngr\xc3\xbcn\r\n"
UTF8 = b"Subject: gr\xc3\xbcn\r\n\r\nx\r\n"


@pytest.mark.parametrize("names", [["joe@example.org"], ["jö@example.org", "joe@example.org"]])
@pytest.mark.parametrize(("header", "needed"), [(PLAIN, False), (UTF8, True)])
def test_a_message_needs_utf8_where_its_header_does(names, header, needed):
    """What one recipient's address needs, the others need not."""
    recipients = tuple(QueuedRecipient(address=one) for one in names)
    message = QueuedMessage(
        id="id", sender="ann@example.net", recipients=recipients, came=0, utf8=True
    )
    transaction, text = finish(
        transaction_of(
            message, range(len(names)), Text(header, b"more\r\n"), lambda message, _: message.sender
        )
    )
    assert transaction.utf8 is needed
    read = []
    while piece := finish(text.read()):
        read.append(piece)
    assert b"".join(read) == header + b"more\r\n"
