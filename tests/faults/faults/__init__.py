"""Faults of all kinds, made in a store and in the real daemon (tests/faults/README.rst)."""
