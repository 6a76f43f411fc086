"""What ``twistd postoffice`` runs: the options, and the service."""

from __future__ import annotations

import os
from typing import cast

from twisted.application.service import IService
from twisted.python import usage

from postoffice import __version__
from postoffice.daemon import pidfile
from postoffice.daemon.systemd import Systemd
from postoffice.model.errors import StartupError
from postoffice.util.process_tuning import collect_garbage_seldom
from postoffice.util.reactor import IReactor


class Options(usage.Options):
    """The options after ``twistd postoffice``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "A mail server: receives mail by SMTP, stores it in maildrops, serves it by POP3. The "
        "configuration is FILE, or ./postoffice.yaml, or /etc/postoffice/postoffice.yaml; without "
        "one, it starts a post office for trials in ./postoffice-data."
    )
    optParameters = [["config", "c", None, "The configuration file."]]

    def postOptions(self) -> None:
        """Remove a stale PID file, so that it does not prevent the start."""
        if self.parent is not None and self.parent.get("pidfile"):
            pidfile.remove_stale(self.parent["pidfile"])

    def opt_version(self) -> None:
        """Show the version of the post office and exit."""
        print(f"postoffice {__version__}")  # noqa: T201
        raise SystemExit(0)


def makeService(options: Options) -> IService:
    """Build the post office that the options describe; exit if it cannot be built."""
    if options.parent is not None:
        collect_garbage_seldom()  # before the imports: what they make stays
    from twisted.internet import reactor as common

    from postoffice.daemon.twistd_service import TwistdService, build_office, words

    reactor = cast(IReactor, common)
    try:
        office = build_office(options["config"], reactor)
    except StartupError as error:
        raise SystemExit(words(error)) from None
    if options.parent is None:
        return office
    office.systemd = Systemd(os.environ, reactor)
    return TwistdService(office, options.parent, reactor)
