"""The policy in the manual."""

from __future__ import annotations

import runpy
from datetime import datetime
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from postoffice.config import loader
from postoffice.daemon.build import find_maker
from postoffice.interfaces import IPolicy, IPolicyMaker, PluginContext
from postoffice.testing import ImmediateExecutor, finish

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "quiet_hours.py"


@pytest.mark.parametrize(("hour", "code"), [(7, 450), (8, None), (17, None), (18, 450)])
def test_the_policy_in_the_manual_keeps_its_hours(hour, code, envelope, recipient):
    quiet_hours = runpy.run_path(str(EXAMPLE))["QuietHours"]
    policy = quiet_hours(8, 18, lambda: datetime(2026, 11, 23, hour))
    said = finish(policy.recipient(envelope(), recipient("quiet@example.net")))
    assert (said and said.code) == code
    assert finish(policy.recipient(envelope(), recipient("joe@example.net"))) is None


OFFICE = """
hostname: mail.example.net
postmaster: joe@example.net
policies: [{kind: quiet-hours, begin: 9}]
"""


def test_its_maker_is_asked_for_as_the_manual_says():
    maker = runpy.run_path(str(EXAMPLE))["quiet_hours"]

    def find(interface, kind):
        return maker if interface is IPolicyMaker else find_maker(interface, kind)

    (chosen,) = loader.read(OFFICE, "postoffice.yaml", find).policies
    policy = chosen.make(
        PluginContext(Clock(), ImmediateExecutor(), "/nowhere", "mail.example.net")
    )
    assert verifyObject(IPolicy, policy)
    assert (policy.begin, policy.end) == (9, 18)
    assert chosen.options["services"] == ("smtp",)
