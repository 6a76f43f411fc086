"""Recognizes the header fields with which policies mark mail as spam."""

from __future__ import annotations

import re

#: The fields that say so: of ``dnsbl`` with ``action: tag``, and those that spam filters add.
_MARK = re.compile(rb"(?im)^(?:x-dnsbl:|x-spam(?:-flag|-status)?:[ \t]*yes\b)")


def is_spam(fields: bytes) -> bool:
    """Return whether the fields that policies have added to a message mark it as spam."""
    return bool(_MARK.search(fields))
