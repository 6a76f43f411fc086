"""The commands UTF8 and LANG (RFC 6856), and the check of names and passwords in UTF-8."""

from __future__ import annotations

from postoffice.pop3.languages import LANGUAGES, chosen, translated
from postoffice.pop3.line_session import CommandFailed, POP3LineSession, no_argument
from postoffice.protocol.scram import saslprep


class UTF8Commands(POP3LineSession):
    """The part of a POP3 session that has UTF8 and LANG."""

    def _utf8(self, argument: bytes) -> None:
        """Send messages unconverted, with UTF-8 in their header fields (RFC 6856 §2.1)."""
        no_argument(argument)
        self.utf8 = True
        self._ok("UTF8 enabled")

    def _lang(self, argument: bytes) -> None:
        """RFC 6856 §3.2."""
        wanted = argument.strip().decode("latin-1")
        if not wanted:
            return self._list_languages()
        tag = chosen(wanted)
        if tag is None:
            raise CommandFailed("this language is not available; LANG lists those that are")
        self.language = tag
        said = translated("replies are in English now", tag)
        return self._say(f"+OK {tag} {said}".encode())

    def _list_languages(self) -> None:
        self._ok("languages follow")
        for tag, name in LANGUAGES.items():
            self._say(f"{tag} {name}".encode())
        self._say(b".")


def check_utf8(octets: bytes) -> None:
    """
    Raises CommandFailed for octets that cannot be a name or a password (RFC 6856 §2.2).

    SASLprep is applied as to a query, which allows unassigned characters (RFC 4013 §2.5).
    """
    if octets.isascii():
        return
    try:
        saslprep(octets.decode("utf-8"), query=True)
    except ValueError:
        raise CommandFailed("names and passwords must be in UTF-8", "AUTH") from None
