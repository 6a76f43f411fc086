"""Examines an office from outside: DNS, certificates, ports, files; each finding says what mends it."""
