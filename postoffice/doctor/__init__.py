"""Examines an office from outside: DNS, certificates, ports, files; and says what to mend."""
