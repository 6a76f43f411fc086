"""The values that everyone shares: addresses, envelopes, replies, listings, mail policies."""
