"""The receiving counter."""
