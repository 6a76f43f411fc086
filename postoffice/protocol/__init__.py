"""What SMTP and POP3 have in common, without I/O."""
