"""Internationalised messages, for clients that know no UTF-8 in header fields (RFC 6857)."""
