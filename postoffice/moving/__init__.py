"""Moves mail from other POP3 servers, and compares what they list with what is here."""
