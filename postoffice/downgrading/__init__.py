"""International header fields, for clients that know no UTF-8 in them (RFC 6856, RFC 2047)."""
