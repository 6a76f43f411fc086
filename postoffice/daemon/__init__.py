"""The daemon: it is built, opened, run and closed here."""
