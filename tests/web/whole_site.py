"""The whole site without sockets, and browsers that ask it."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

from twisted.internet.task import Clock

from postoffice.accounts.attempts import Allowance
from postoffice.accounts.checker import Checker
from postoffice.accounts.directories import Directories
from postoffice.accounts.login_db import LoginRecords
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwords import hash_password
from postoffice.config import loader
from postoffice.daemon.build import find_maker
from postoffice.doctor.findings import Finding
from postoffice.doctor.public_site import site_of
from postoffice.model.address import Quota
from postoffice.model.envelope import Client
from postoffice.model.errors import TemporaryFailure
from postoffice.model.mail_policy import DEFAULT_POLICY
from postoffice.protocol.scram import derive
from postoffice.queue.sending_limits import SendingLimits
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish
from postoffice.web.activity import Activity
from postoffice.web.administration import Administration
from postoffice.web.context import WebContext, WebState
from postoffice.web.mail_programs import accesses
from postoffice.web.site import make_application
from postoffice.web.values import WebRequest

NOW = 1_800_000_000.0
PASSWORD = "correct horse battery"
SECRET = hash_password(PASSWORD.encode())
SCRAM = str(derive(PASSWORD.encode()))
ANNA, BERT, ADMIN = "anna@example.net", "bert@example.net", "admin@example.net"
HOST = "mail.example.net"
#: A browser elsewhere, by HTTPS, and one on the machine itself.
AWAY, HERE = Client("192.0.2.7", encrypted=True), Client("127.0.0.1")


class Site:
    """The application over accounts in memory; time is a clock."""

    def __init__(self, folder) -> None:
        self.clock = Clock()
        self.letters: list[tuple[str, bytes]] = []
        self.directory = MemoryDirectory()
        finish(self.directory.add_domain("example.net"))
        for name in (ANNA, BERT, ADMIN):
            finish(self.directory.add(name, SECRET, SCRAM))
        executor = ImmediateExecutor()
        self.store = MaildirStore(
            str(folder / "mail"),
            executor,
            hostname=HOST,
            clock=Clock(),
            durability="files",
            undelete=86400.0,
        )
        finish(self.store.start())
        self.logins = LoginRecords(
            str(folder), executor, self.clock, Allowance(100, 3600), Allowance(10, 60)
        )
        finish(self.logins.start())
        checker = Checker(
            [self.directory],
            executor,
            clock=self.clock.seconds,
            throttle=self.logins.throttle,
            now=self.now,
        )
        self.state = WebState(str(folder), executor, self.clock, self.now)
        finish(self.state.start())
        self.web_db = self.state.web_db
        self.sending = SendingLimits(str(folder), executor, self.clock, now=self.now)
        finish(self.sending.start())
        self.web_db.add_administrator(ADMIN)
        self.context = WebContext(
            self.state,
            Directories([self.directory]),
            checker.requestAvatarId,
            self.logins.recording.note,
            self.logins.login_history,
            HOST,
            (HOST,),
            self.store,
            accesses(HOST, [("pop3", 110), ("pop3s", 995), ("submissions", 465)], tls=True),
            86400.0,
            Quota(10_000_000, 0, "reject"),
            Quota(0, 0, "reject"),
            "postmaster@example.net",
            DEFAULT_POLICY,
            self.administration(folder, executor),
            f"https://{HOST}",
            self.send_letter,
            way_out=True,
            sending=self.sending,
            manager=lambda: self.manager,
            unwritten_logins=self.logins.recording.unwritten,
        )
        self.application = make_application(self.context)

    async def send_letter(self, own: str, to: str, text: bytes) -> None:
        """Keeps the letter; one to nobody cannot be delivered."""
        if to.startswith("nobody@"):
            raise TemporaryFailure("nobody is there")
        self.letters.append((to, text))

    def administration(self, folder, executor) -> Administration:
        """What administrators work with: a store and a queue in memory."""
        text = (
            f"hostname: {HOST}\npostmaster: {ADMIN}\nstate: {folder}\nweb: {{}}\noutbound: {{}}\n"
        )
        self.settings = loader.read(text, "postoffice.yaml", find_maker)
        self.sessions: list[dict] = []
        self.ended: list[str] = []
        self.findings: list[Finding] = []
        self.manager = None
        self.log = None

        async def check(domain):
            return self.findings

        return Administration(
            settings=self.settings,
            directories=[self.directory],
            store=self.store,
            executor=executor,
            now=self.now,
            clock=self.clock,
            site=site_of(self.settings),
            sessions=lambda: self.sessions,
            end_sessions=lambda name: self.ended.append(name) or 1,
            manager=lambda: self.manager,
            check_domain=check,
            quick_findings=lambda: self.findings,
            activity=Activity(self.now),
            log=lambda: self.log,
        )

    def now(self) -> float:
        return NOW + self.clock.seconds()

    def close(self) -> None:
        finish(self.state.stop())
        finish(self.sending.stop())
        finish(self.store.stop())
        finish(self.logins.stop())

    def browser(self, client: Client = AWAY) -> Browser:
        return Browser(self, client)

    def logged_in(self, account: str = ANNA, client: Client = AWAY) -> Browser:
        browser = self.browser(client)
        assert browser.log_in(account).status == 303
        browser.account = account
        return browser


class Browser:
    """Asks the site as a browser does: with cookies, and the token of the last page's forms."""

    def __init__(self, site: Site, client: Client) -> None:
        self.site = site
        self.client = client
        self.cookies: dict[str, str] = {}
        self.csrf = ""
        self.account = ""
        self.headers = {
            "host": HOST if client.encrypted else "localhost:8025",
            "sec-fetch-site": "same-origin",
        }

    def ask(self, method: str, address: str, form=None, **changes):
        """Ask for a page; ``changes`` are those of the request."""
        parts = urlsplit(address)
        fields = {name: value if isinstance(value, list) else [value]
                  for name, value in (form or {}).items()}  # fmt: skip
        request = WebRequest(
            method, parts.path, self.client, parse_qs(parts.query), fields, self.headers,
            self.cookies,
        )  # fmt: skip
        self.asked = replace(request, **changes)
        self.response = finish(self.site.application.answer(self.asked))
        for cookie in self.response.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        if found := re.search(r'name="csrf" value="([^"]+)"', self.text):
            self.csrf = found[1]
        return self.response

    def get(self, address: str, **changes):
        return self.ask("GET", address, **changes)

    def post(self, path: str, /, **form):
        return self.ask("POST", path, {"csrf": self.csrf, **form})

    def log_in(self, account: str, password: str = PASSWORD):
        response = self.post("/login", address=account, password=password)
        if response.status == 303:
            self.get(self.place)
        return response

    def follow(self):
        """Go where the last answer leads."""
        assert self.response.status == 303, self.text
        return self.get(self.place)

    @property
    def place(self) -> str:
        return self.response.headers["Location"]

    @property
    def text(self) -> str:
        return self.response.body.decode("utf-8", "replace")
