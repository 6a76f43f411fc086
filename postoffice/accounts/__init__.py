"""Directories of accounts, the checker and the realm."""
