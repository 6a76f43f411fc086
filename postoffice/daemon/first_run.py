"""The first run without a configuration: it makes one account, and shows how to begin."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence

from twisted.logger import Logger

from postoffice.accounts.passwords import generate_password, hash_password
from postoffice.config.web import WebSettings
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.model.errors import StartupError
from postoffice.protocol.scram import derive

_FIRST = """\

The post office is open, on this machine only.  Its account is

    {account}    password: {password}

which is shown this once.  Send a first message, and fetch it:

    printf 'From: me@example.org\\r\\nSubject: hello\\r\\n\\r\\nHow are you?\\r\\n' |
        curl -sS smtp://{smtp} --mail-from me@example.org --mail-rcpt {account} -T -

    curl -sS pop3://{pop3}/1 --user {account}:{password}

To send a file of your own: curl --crlf -T FILE ... (mail has CR LF line ends).
A mail program sends to {submission} and fetches from {pop3}, with no
encryption and the account's whole address as user name.  Mail goes to accounts
of this office only: there is no sending to other servers yet.

{page}Ctrl-C stops it; all data is in {state}.
For an office of your own: {command} init --help

"""
_LATER = """\

The post office is open, on this machine only.  Strangers send by SMTP to {smtp};
{account} sends to {submission}, and fetches by POP3 from {pop3}.
For a new password of that account: {command} account passwd {account} --generate
{page}
"""
#: What both say if there is a web page; the link works once, within an hour.
_PAGE = """\
Look at the mailbox, and administer, on the web page; this link logs you in, once:

    {link}

"""


class Terminal:
    """
    The terminal that started the process, even if stdout is redirected later.

    twistd sends stdout to the log, and a daemon leaves its terminal, so it is opened
    early.  If there is no terminal, ``write`` returns False.
    """

    def __init__(self, path: str = "/dev/tty") -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def write(self, text: str) -> bool:
        """Show a text, once; return whether somebody may have seen it."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return False
        try:
            octets = text.encode()
            while octets:
                octets = octets[os.write(fd, octets) :]
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


class FirstRun:
    """Makes the account on the first start, and shows how to begin, but never in the log."""

    log = Logger()

    def __init__(
        self, account: Address, state: str, terminal: Terminal, web: WebSettings | None = None
    ) -> None:
        self._account = account
        self._state = state
        self._terminal = terminal
        self._web = web
        self._password: str | None = None
        self._token = ""

    @property
    def path(self) -> str:
        """The file for the instructions if there is no terminal."""
        return os.path.join(self._state, "first-light.txt")

    async def prepare(self, plugins: Plugins) -> None:
        """Make the domain and the account with a password, if missing; and a link to the page."""
        register = plugins.register
        name = self._account.normal
        if self._web is not None:
            self._token = await plugins.executor.run(_make_link, self._state, name)
        if await register.find(name) is not None:
            return
        password = generate_password()
        secret = await plugins.executor.run(hash_password, password.encode())
        keys = await plugins.executor.run(derive, password.encode())
        await register.add_domain(self._account.domain)
        await register.add(name, secret, str(keys))
        self._password = password

    def _page(self, addresses: Mapping[str, Sequence[str]]) -> str:
        """Return the lines about the web page; empty if there is none."""
        if self._web is None or not addresses.get("web"):
            return ""
        from postoffice.web.web_db import link_to

        port = int(addresses["web"][0].rpartition(":")[2])
        return _PAGE.format(link=link_to(self._web.address(port), self._token))

    def greet(self, addresses: Mapping[str, Sequence[str]]) -> None:
        """Show how to begin: on the terminal, or else in a file that only its owner can read."""
        text = (_LATER if self._password is None else _FIRST).format(
            account=self._account,
            password=self._password,
            state=self._state,
            command=_command(),
            page=self._page(addresses),
            **{service: found[0] for service, found in addresses.items()},
        )
        if self._terminal.write(text):
            return
        if self._password is None:
            self.log.info(
                "to set a new password: postoffice account passwd {who}", who=self._account
            )
            return
        _write_privately(self.path, text)
        self.log.info("how to send a first message is explained in {path}", path=self.path)


def _make_link(state: str, account: str) -> str:
    """Let the account administer on the web page; return the token of a link.  It blocks."""
    from postoffice.web.web_db import LOGIN, WebDB

    web_db = WebDB(state, time.time)
    web_db.open()
    try:
        web_db.add_administrator(account)
        return web_db.make_link(LOGIN, account)
    finally:
        web_db.close()


def _command() -> str:
    """Return how to call ``postoffice``: by its path if the shell would not find it."""
    beside = os.path.join(os.path.dirname(sys.executable), "postoffice")
    return beside if shutil.which("postoffice") is None and os.path.exists(beside) else "postoffice"


def _write_privately(path: str, text: str) -> None:
    """Write a new file that only its owner can read.  Raises StartupError."""
    try:
        if os.path.lexists(path):
            os.unlink(path)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StartupError(f"{path} cannot be written: {error.strerror}") from error
