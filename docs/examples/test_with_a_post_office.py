"""A test that needs a post office: python -m twisted.trial test_with_a_post_office.py"""

import poplib
import smtplib

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from postoffice.accounts.passwords import hash_password
from postoffice.config import loader
from postoffice.daemon.build import build, find_maker

OFFICE = """
hostname: mail.example.net
postmaster: joe@example.net
state: state
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]    # any free port
  submission: []
  lmtp: []
  pop3: ["tcp:0:interface=127.0.0.1"]
store: {kind: memory}
"""


class WithAPostOffice(TestCase):
    async def setUp(self):
        settings = loader.read(OFFICE, f"{self.mktemp()}/postoffice.yaml", find_maker)
        self.office = build(settings, reactor)
        self.addCleanup(self.office.stopService)
        self.office.startService()
        await self.office.whenOpen()
        register = self.office.plugins.register
        await register.add_domain("example.net")
        await register.add("joe@example.net", hash_password(b"secret"))

    def address(self, service):
        host, port = self.office.addresses[service][0].split(":")
        return host, int(port)

    async def test_what_is_posted_is_collected(self):
        await deferToThread(self.post, b"Subject: hello\r\n\r\nHow are you?\r\n")
        lines = await deferToThread(self.collect)
        self.assertEqual(lines[-1], b"How are you?")

    def post(self, text):
        with smtplib.SMTP(*self.address("smtp")) as client:
            client.sendmail("me@example.org", ["joe@example.net"], text)

    def collect(self):
        client = poplib.POP3(*self.address("pop3"))
        client.user("joe@example.net")
        client.pass_("secret")
        _, lines, _ = client.retr(1)
        client.quit()
        return lines
