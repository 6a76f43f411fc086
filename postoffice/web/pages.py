"""Pages from templates: Jinja2 with autoescape, in the language of the visit."""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined

from postoffice.web import formats
from postoffice.web.hostile_text import visible
from postoffice.web.languages import LANGUAGES, Translations
from postoffice.web.values import Response
from postoffice.web.visit import Visit

#: The files under ``static``, and their kinds.
STATIC = {
    "style.css": "text/css; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Pages:
    """
    Renders pages; ``menu`` returns the entries of the navigation for a visit: path, English text.

    ``now`` returns seconds since 1970.
    """

    def __init__(self, hostname: str, now: Callable[[], float] = time.time) -> None:
        self.hostname = hostname
        self.menu: Callable[[Visit], Sequence[tuple[str, Sequence[tuple[str, str]]]]] = _no_menu
        self._now = now
        self.static = {name: pkgutil.get_data(__name__, f"static/{name}") or b"" for name in STATIC}
        self._versions = {
            name: sha256(octets).hexdigest()[:12] for name, octets in self.static.items()
        }
        self._environments = {tag: self._environment(tag) for tag in LANGUAGES}

    def _environment(self, language: str) -> Environment:
        environment = Environment(
            loader=PackageLoader("postoffice.web"),
            autoescape=True,
            undefined=StrictUndefined,
            extensions=["jinja2.ext.i18n"],
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.install_gettext_translations(Translations(language), newstyle=True)
        environment.policies["ext.i18n.trimmed"] = True
        words = formats.Formats(language, self._now)
        environment.filters.update(
            visible=visible,
            size=words.size,
            number=words.number,
            moment=words.moment,
            ago=words.ago,
            seconds=words.duration,
            iso=formats.iso,
        )
        environment.globals.update(
            language=language, languages=LANGUAGES, hostname=self.hostname, static=self._address
        )
        return environment

    def page(self, visit: Visit, template: str, status: int = 200, **facts: object) -> Response:
        """
        Return a page.

        Besides ``facts`` templates have ``visit``, ``menu`` and ``said`` (messages).
        """
        return Response(status, self.rendered(visit, template, **facts).encode())

    def rendered(self, visit: Visit, template: str, **facts: object) -> str:
        """Return a template's text."""
        said = visit.session.take_messages() if visit.session is not None else []
        page = self._environments[visit.language].get_template(template)
        return str(page.render(visit=visit, menu=self.menu(visit), said=said, **facts))

    def _address(self, name: str) -> str:
        """Return the address of a static file; it changes with the file, so it may be kept."""
        return f"/static/{name}?{self._versions[name]}"


def static_answer(pages: Pages, name: str) -> Response | None:
    """Return a static file, or None."""
    if name not in STATIC:
        return None
    headers: Mapping[str, str] = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(200, pages.static[name], STATIC[name], headers)


def _no_menu(_: Visit) -> Sequence[tuple[str, Sequence[tuple[str, str]]]]:
    return ()
