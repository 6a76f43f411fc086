"""Reads the log back: lines and events, and the story of one message or session."""
