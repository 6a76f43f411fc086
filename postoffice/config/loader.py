"""Finds the configuration, and reads it into frozen settings."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from string import Template

from postoffice.config.endpoints import find_clashes
from postoffice.config.listeners import IMPLICIT_TLS, Listeners
from postoffice.config.outbound_checks import complete
from postoffice.config.reader import FindMaker, Reader, TryEndpoint
from postoffice.config.schema import keys_of
from postoffice.config.settings import Settings
from postoffice.config.source import SIZE_MAXIMUM, ConfigurationError, Source, compose, text_of
from postoffice.config.web import WebSettings
from postoffice.config.web import available as web_available
from postoffice.config.web import complete as check_web

#: Where a configuration is looked for, in this order.
PLACES = ("postoffice.yaml", "/etc/postoffice/postoffice.yaml")
#: The environment variable that replaces PLACES, with ``:`` between them: for tests, and for
#: several post offices on one machine.
OTHER_PLACES = "POSTOFFICE_PLACES"
#: The state folder of a post office without a configuration.
FIRST_RUN_STATE = "postoffice-data"
#: The configuration of a post office that has no file: all other keys have their defaults.
FIRST_RUN = """\
hostname: localhost
postmaster: demo@localhost
state: postoffice-data
limits: {connections: 200}
"""
#: The variables that the text of a warning mail may use.
WARNING_WORDS = frozenset(("address", "percent", "used", "limit"))


def places() -> tuple[str, ...]:
    """The places where a configuration is looked for: from the environment, or PLACES."""
    others = os.environ.get(OTHER_PLACES, "")
    return tuple(filter(None, others.split(os.pathsep))) or PLACES


def find(given: str | None) -> str | None:
    """The configuration file: the given one, or the first that exists, or None."""
    if given is not None:
        return given
    for path in places():
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # it exists; reading it tells what is wrong
        return path
    return None


def load(path: str, find_maker: FindMaker, try_endpoint: TryEndpoint | None = None) -> Settings:
    """Read the settings from a file.  Raises ConfigurationError, with all problems."""
    return read(_text(path), path, find_maker, try_endpoint)


def first_run(find_maker: FindMaker) -> Settings:
    """The settings if there is no configuration file: everything is in ./postoffice-data."""
    text = FIRST_RUN + ("web: {}\n" if web_available() else "")
    return read(text, "built in: no postoffice.yaml was found", find_maker, first_run=True)


def read(
    text: str,
    file: str,
    find_maker: FindMaker,
    try_endpoint: TryEndpoint | None = None,
    *,
    first_run: bool = False,
) -> Settings:
    """Read the settings from a text, the contents of ``file``.  Raises ConfigurationError."""
    source = Source(file)
    node = compose(text, source)
    if node is None:
        raise ConfigurationError(source.problems)
    folder = os.path.dirname(os.path.abspath(file))
    values = Reader(source, folder, find_maker, try_endpoint).mapping(node, keys_of(Settings), "")
    settings = Settings(source=source, first_run=first_run, **values)
    if not source.problems:
        settings = replace(
            settings,
            listeners=_with_certificate(settings, source),
            warning_text=_warning_text(settings.quota.warning_text, source),
            outbound=settings.outbound and complete(settings.outbound, source),
            web=settings.web and _web(settings.web, settings, source),
        )
        _check_endpoints(settings, source)
        if settings.metrics is not None and find_spec("prometheus_client") is None:
            why = "needs the package prometheus-client: pip install 'postoffice[metrics]'"
            source.complain("metrics", why)
    if source.problems:
        raise ConfigurationError(source.problems)
    return settings


def _with_certificate(settings: Settings, source: Source) -> Listeners:
    """Without a certificate, close the services that need one; complain if the file has them."""
    listeners = settings.listeners
    if settings.tls.certificates:
        return listeners
    for service in IMPLICIT_TLS:
        line = source.lines.get(f"listeners.{service}")
        if line and listeners.of(service):
            why = "needs a certificate; add one under tls: certificates:"
            source.complain(f"listeners.{service}", why, line)
    return replace(listeners, **dict.fromkeys(IMPLICIT_TLS, ()))


def _web(web: WebSettings, settings: Settings, source: Source) -> WebSettings:
    return check_web(web, settings.hostname, settings.tls.certificates, source)


def _check_endpoints(settings: Settings, source: Source) -> None:
    """Complain of listeners that cannot be open at the same time."""
    named = [
        (f"listeners.{service}[{number}]", one.endpoint)
        for service, ones in settings.listeners.items()
        for number, one in enumerate(ones)
    ]
    named += [("web.listen", settings.web.listen)] if settings.web else []
    named += [("metrics.listen", settings.metrics.listen)] if settings.metrics else []
    known = dict(named)
    for key, other in find_clashes(named):
        service = other.removeprefix("listeners.").partition("[")[0]
        source.complain(key, f"{known[key]!r}: {service} listens there already ({known[other]!r})")


def _warning_text(path: str | None, source: Source) -> str:
    """The text of warning mails in a file; "" if there is none: then the built-in text is used."""
    key = "quota.warning_text"
    if path is None:
        return ""
    try:
        text = _text(path)
    except ConfigurationError as error:
        for problem in error.problems:
            source.complain(key, f"{path}: {problem.text}")
        return ""
    subject, _, body = text.lstrip().partition("\n")
    if not subject.strip() or not body.strip():
        source.complain(key, f"{path} has no subject in its first line, or no text below it")
    for word in sorted(set(Template(text).get_identifiers()) - WARNING_WORDS):
        known = ", ".join(f"${{{one}}}" for one in sorted(WARNING_WORDS))
        source.complain(key, f"{path} has ${{{word}}}, which is none of {known}")
    return text


def _text(path: str) -> str:
    """Read a text file.  Raises ConfigurationError."""
    try:
        with open(path, "rb") as file:
            octets = file.read(SIZE_MAXIMUM + 1)
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        raise ConfigurationError([Source(path).problem("", why)]) from error
    return text_of(octets, Source(path))
