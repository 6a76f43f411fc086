"""All English texts of the page, as the templates and the code have them."""

from __future__ import annotations

import ast
from pathlib import Path

from jinja2 import Environment

import postoffice.web
from postoffice.web import access_pages, formats, mailbox_pages, site

ROOM = Path(postoffice.web.__file__).parent
#: Functions whose texts are translated; the place of the text among their arguments.
CALLS = {"text": 0, "gettext": 0, "NotServed": 1}


def of_templates() -> set[str]:
    """The texts of the templates; of those with a plural, the singular."""
    environment = Environment(extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True)
    environment.policies["ext.i18n.trimmed"] = True
    found = set()
    for path in ROOM.glob("templates/**/*.html"):
        for _, _, text in environment.extract_translations(path.read_text("utf-8")):
            found.add(text[0] if isinstance(text, tuple) else text)
    found.discard(None)  # a text that is not written there
    return found


def of_code() -> set[str]:
    """The texts in the code."""
    found = {one for one, _ in formats.COUNTED}
    found |= {name for menu in (site.OWNER_MENU, site.ADMINISTRATOR_MENU) for _, name in menu}
    found |= {*access_pages.FAULTS, *mailbox_pages.REMOVERS.values()}
    found |= {mailbox_pages.PAGE_ITSELF, mailbox_pages.PROGRAM}
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                for text in node.args[CALLS[name] :][:1] if name in CALLS else ():
                    found |= {
                        one.value
                        for one in ast.walk(text)
                        if isinstance(one, ast.Constant) and isinstance(one.value, str)
                    }
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                names = {target.id for target in node.targets if isinstance(target, ast.Name)}
                if names & {"text", "english"}:
                    found.add(str(node.value.value))
    return found


if __name__ == "__main__":
    from postoffice.web.languages import LANGUAGES, catalogue

    for language in list(LANGUAGES)[1:]:
        for text in sorted((of_templates() | of_code()) - catalogue(language).keys()):
            print(f"{language}: {text!r}")
        for text in sorted(catalogue(language).keys() - of_templates() - of_code() - {""}):
            print(f"{language}: not used: {text!r}")
