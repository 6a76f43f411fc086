"""The configuration: from postoffice.yaml to frozen settings, or errors with file, line and key."""
