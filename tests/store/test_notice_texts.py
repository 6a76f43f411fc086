"""What owners are told about their quotas is what will happen."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes

import pytest

from postoffice.model.address import Address, Quota
from postoffice.store.quota.enforcement import Notice
from postoffice.store.quota.notice_texts import letter
from postoffice.store.quota.usage_file import Usage


@pytest.mark.parametrize(
    ("over", "said", "not_said"),
    [
        ("reject", "will be turned away", ("removed to make room", "has to wait")),
        (None, "will be turned away", ("removed to make room", "has to wait")),
        ("defer", "has to wait with its senders", ("turned away", "removed to make room")),
        ("make-room", "will be removed to make room", ("turned away", "has to wait")),
    ],
)
def test_a_letter_says_what_will_happen(over, said, not_said):
    notice = Notice("f", Quota(1000, 0, over), Usage(800, 3), level=80)
    when = datetime(2026, 1, 31, tzinfo=UTC)
    octets = letter(notice, Address("joe", "example.net"), "h", "u", when)
    text = " ".join(message_from_bytes(octets).get_payload().split())
    assert said in text
    assert not any(words in text for words in not_said)
    assert "Please collect your mail" in text
    assert "$" not in text
