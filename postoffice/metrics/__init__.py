"""Counts and measures what the office does, for Prometheus (the extra ``metrics``)."""
