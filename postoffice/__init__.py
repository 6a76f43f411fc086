"""A mail post office: it receives over SMTP, keeps in maildrops, serves over POP3."""

from __future__ import annotations

from postoffice import moved

__version__ = "0.2.0"

moved.install()
