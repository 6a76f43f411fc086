"""Quotas."""

FILE = "maildirsize"
