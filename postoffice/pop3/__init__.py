"""The rules of POP3, without I/O."""
