"""Policies: each checks one thing about mail that comes in, and may refuse it."""
