"""The domain name system: a resolver, mail exchangers, and policies published there."""
