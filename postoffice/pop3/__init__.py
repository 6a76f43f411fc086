"""The serving counter."""
