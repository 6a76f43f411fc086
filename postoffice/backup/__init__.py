"""Backups: what is in one, how it is written as a tar or a folder, and how it is put back."""
