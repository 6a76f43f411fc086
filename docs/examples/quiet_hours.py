"""A policy: no mail to ``quiet@`` anybody outside office hours."""

from __future__ import annotations

from datetime import datetime

from twisted.plugin import IPlugin
from zope.interface import implementer

from postoffice.interfaces import IPolicy, IPolicyMaker
from postoffice.model.config_values import WHOLE, Key
from postoffice.model.reply import Reply
from postoffice.policy.common import PolicyBase


@implementer(IPolicy)
class QuietHours(PolicyBase):
    stages = ("recipient",)

    def __init__(self, begin, end, now=datetime.now):
        self.begin = begin
        self.end = end
        self.now = now

    async def recipient(self, envelope, recipient):
        open_now = self.begin <= self.now().hour < self.end
        if recipient.address.local != "quiet" or open_now:
            return None
        return Reply(450, "4.7.1", f"Please come between {self.begin} and {self.end} o'clock")


@implementer(IPlugin, IPolicyMaker)
class QuietHoursMaker:
    kind = "quiet-hours"
    keys = (
        Key("begin", WHOLE, 8, "From this hour on mail is taken."),
        Key("end", WHOLE, 18, "Until this hour."),
    )

    def make(self, options, context):
        return QuietHours(options["begin"], options["end"])


quiet_hours = QuietHoursMaker()
