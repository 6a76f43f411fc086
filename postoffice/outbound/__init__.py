"""The rules of sending: where mail goes, when, under which sender, and the letters about it."""
