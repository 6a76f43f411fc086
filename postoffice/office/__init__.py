"""The front door: configuration, construction, the commands."""
