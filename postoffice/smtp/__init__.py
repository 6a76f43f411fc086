"""The rules of SMTP, submission and LMTP, without I/O."""
