"""The ``twistd postoffice`` plugin."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

postoffice = ServiceMaker(  # type: ignore[no-untyped-call]
    "postoffice",
    "postoffice.daemon.twistd_plugin",
    "A mail post office: receives over SMTP, keeps in maildrops, serves over POP3.",
    "postoffice",
)
