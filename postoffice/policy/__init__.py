"""Policies: whether mail may come in; one objection each."""
