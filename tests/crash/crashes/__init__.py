"""Crash states of the mail store: recorded, made, and looked at (tests/crash/README.rst)."""
