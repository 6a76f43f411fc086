"""Stores of maildrops."""
