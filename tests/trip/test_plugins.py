"""Rooms that others brought: a distribution of its own, and plugins that are broken or missing."""

from __future__ import annotations

import json
import poplib
import shutil
import smtplib
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import postoffice
from tests.trip.conftest import CONFIGURATION, NEVER

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "shelf"
OURS = Path(postoffice.__file__).parent.parent
TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
MAKER = """\
from twisted.plugin import IPlugin
from zope.interface import implementer

from postoffice.model.errors import SettingError, TemporaryFailure
from postoffice.interfaces import IStoreMaker
from postoffice.model.config_values import WHOLE, Key


@implementer(IPlugin, IStoreMaker)
class Maker:
    kind = "odd"
    keys = (Key("shelves", WHOLE, 3, "How many."),)

    def make(self, options, around):
        %s


maker = Maker()
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> str:
    """The interpreter of a new environment: what is here, and the example, installed by pip."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = str(folder / "venv" / "bin" / "python")
    (site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    here = [OURS, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (site / "what-is-here.pth").write_text("".join(f"{path}\n" for path in here))
    source = shutil.copytree(EXAMPLE, folder / "shelf")
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps"]
        + ["--no-build-isolation", "--disable-pip-version-check", str(source)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert (site / "twisted" / "plugins" / "postoffice_shelf_makers.py").exists()
    assert not (site / "twisted" / "__init__.py").exists()
    return python


@pytest.fixture
def plugin(tmp_path, with_path):
    """Lays a plugin somewhere on Python's path; the environment that has it."""
    folder = tmp_path / "path"
    (folder / "twisted" / "plugins").mkdir(parents=True)

    def lay(source: str) -> dict[str, str]:
        (folder / "twisted" / "plugins" / "odd_makers.py").write_text(source)
        return with_path(folder)

    return lay


def test_mail_goes_through_a_store_of_another_distribution(
    fresh, start, written, command, tmp_path
):
    written("store: {kind: shelf, path: mail.db}\n")
    assert command("check-config", python=fresh).returncode == 0
    office = start(twistd=[fresh, "-c", TWISTD]).open()
    account = office.new_account()
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        client.sendmail("a@example.org", [account.address], b"Subject: x\r\n\r\n.dots.\r\n")
    assert (tmp_path / "state" / "mail.db").exists()
    assert not (tmp_path / "state" / "maildrops").exists()

    shown = command("account", "show", account.address, "--json", python=fresh)
    assert json.loads(shown.stdout)["messages"] == 1

    client = poplib.POP3("127.0.0.1", office.pop3)
    client.user(account.address)
    client.pass_(account.password)
    _, lines, octets = client.retr(1)
    assert lines[-2:] == [b"", b".dots."]
    assert octets == client.stat()[1]
    client.quit()

    kept = command("account", "remove", account.address, "--keep-mail", "--json", python=fresh)
    assert json.loads(kept.stdout)["kept_in"][0].startswith(f"{tmp_path}/state/mail.db")
    office.check()


def test_a_store_of_a_distribution_that_is_not_installed(start, written):
    written("store: {kind: shelf}\n")
    office = start()
    assert office.end() == 1
    assert office.err[1:] == [
        "postoffice.yaml:9: store.kind: there is no store of kind 'shelf', only: maildir, memory\n"
    ]


def test_a_broken_plugin_that_is_asked_for(start, written, plugin, command):
    written("store: {kind: odd}\n")
    env = plugin("import no_such_module\n" + MAKER % "return None")
    office = start(env=env)
    assert office.end() == 1
    why = (
        "postoffice.yaml:9: store.kind: there is no store of kind 'odd', only: maildir, memory; "
        "the plugin twisted.plugins.odd_makers is broken: ModuleNotFoundError: No module named "
        "'no_such_module'"
    )
    assert why in "".join(office.err)
    checked = command("check-config", env=env)
    assert (checked.returncode, checked.stderr) == (2, why + "\n")


def test_a_broken_plugin_that_nobody_asked_for_harms_nothing(start, written, plugin, command):
    written("")
    env = plugin("import no_such_module\n")
    start(env=env).open()
    checked = command("check-config", env=env)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_plugin_that_breaks_after_it_was_known(start, written, plugin, command):
    """Twisted remembers what a plugin offered, and only logs that it is gone."""
    written("store: {kind: odd}\n")
    assert command("check-config", env=plugin(MAKER % "return None")).returncode == 0
    checked = command("check-config", env=plugin("this is no Python\n"))
    assert checked.returncode == 2
    assert "odd_makers is broken: SyntaxError: invalid syntax" in checked.stderr


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_module", "postoffice.yaml:9: store: the plugin of kind 'odd' failed: Mod"),
        ("raise KeyError('x')", "postoffice.yaml:9: store: the plugin of kind 'odd' failed: KeyEr"),
        (
            "raise SettingError('shelves', f\"{options['shelves']} are too many\")",
            "postoffice.yaml:11: store.shelves: 7 are too many\n",
        ),
        ("raise SettingError('', 'not today')", "postoffice.yaml:9: store: not today\n"),
    ],
)
def test_a_maker_that_cannot_make_its_room(code, why, start, written, plugin, command):
    written("store:\n  kind: odd\n  shelves: 7\n")
    env = plugin(MAKER % code)
    checked = command("check-config", env=env)
    assert checked.returncode == 2
    assert checked.stderr.startswith(why)
    office = start(env=env)
    assert office.end() == 1
    assert why in "".join(office.err)
    assert "Traceback" not in office.said


def test_the_keys_of_a_plugin_are_read_as_ours_are(written, plugin, command):
    written("store: {kind: odd, shelves: many, size: 3}\n")
    checked = command("check-config", env=plugin(MAKER % "return None"))
    assert checked.stderr.splitlines() == [
        "postoffice.yaml:9: store.shelves: found 'many'; expected a whole number, 0 or more",
        "postoffice.yaml:9: store.size: unknown key; known here: kind, shelves",
    ]


def test_two_plugins_of_one_kind(written, plugin, command):
    written("")
    source = (MAKER % "return None").replace('"odd"', '"maildir"')
    checked = command("check-config", env=plugin(source))
    assert checked.returncode == 2
    assert "kind 'maildir' is claimed by several plugins: twisted.plugins." in checked.stderr


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_store_without_a_queue_gets_one_beside_it(
    fresh, start, written, command, opened, tmp_path, tmp_path_factory, reloaded
):
    """At the start, or at the reload from which mail leaves."""
    there_too = CONFIGURATION.replace("example.net", "example.com")
    for there in opened(tmp_path_factory.mktemp("there"), there_too):
        eve = there.account("eve@example.com", there.PASSWORD)
        store = "store: {kind: shelf, path: mail.db}\n"
        outbound = f'outbound: {{routes: [{{via: "smtp:127.0.0.1:{there.smtp}"}}]}}\n'
        written(store + ("" if reloaded else outbound))
        office = start(twistd=[fresh, "-c", TWISTD]).open()
        if reloaded:
            written(store + outbound)
            done = command("reload", python=fresh)
            assert done.returncode == 0, done.stderr
        ann, bob = office.new_account(), office.new_account()
        with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
            client.login(ann.address, ann.password)
            to = [eve.address, bob.address, "nobody@example.com"]
            client.sendmail(ann.address, to, f"From: {ann.address}\r\n\r\nhello\r\n".encode())
        office.wait_for(" left-queue ")
        assert len(there.collect(eve)) == len(office.collect(bob)) == 1
        [letter] = office.collect(ann)
        assert b"5.1.1" in letter
        listed = command("queue", "list", "--json", python=fresh)
        assert json.loads(listed.stdout)["total"] == 0
        assert (tmp_path / "state" / "queue" / ".queue").exists()
        office.check()


@pytest.mark.parametrize("failure", ["TemporaryFailure('the shelf has fallen')", "ValueError(3)"])
def test_a_room_that_does_not_start(failure, start, written, plugin):
    written("store: {kind: odd}\n")
    store = "\n".join(
        [
            "class Store:",
            "            async def start(self):",
            f"                raise {failure}",
            "            async def stop(self):",
            "                pass",
            "        return Store()",
        ]
    )
    office = start(env=plugin(MAKER % store))
    assert office.end() == 1
    why = failure.replace("('", ": ").replace("')", "").replace("(3)", ": 3")
    assert f"store of kind odd failed to start: {why}" in "".join(office.err)
    assert "Traceback" not in "".join(office.err)


NEEDS_THE_REACTOR = """\
from twisted.internet.threads import deferToThreadPool
        from postoffice.store.memory import MemoryStore

        class Store(MemoryStore):
            async def start(self):
                # these threads begin to work when the reactor runs
                reactor = around.reactor
                await deferToThreadPool(reactor, reactor.getThreadPool(), self.get_ready)

            def get_ready(self):
                %s

        return Store()"""


def test_a_store_that_gets_ready_only_when_the_reactor_runs(start, written, plugin):
    written("store: {kind: odd}\n")
    office = start(env=plugin(MAKER % NEEDS_THE_REACTOR % "pass")).open()
    account = office.new_account()
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        client.sendmail("a@example.org", [account.address], b"Subject: x\r\n\r\nhi\r\n")
    [text] = office.collect(account)
    assert text.endswith(b"\r\nhi\r\n")
    office.check()


def test_a_store_that_fails_when_the_reactor_runs_already(start, written, plugin):
    written("store: {kind: odd}\n")
    failing = NEEDS_THE_REACTOR % "raise TemporaryFailure('the shelf has fallen')"
    office = start(env=plugin(MAKER % failing))
    assert office.end() == 1
    assert "".join(office.err).startswith("The post office cannot open:\n")
    assert "store of kind odd failed to start: TemporaryFailure: the shelf has fallen" in (
        "".join(office.err)
    )
    assert "Traceback" not in office.said


@pytest.mark.parametrize(("work", "status"), [("pass", 0), ("raise TemporaryFailure('no')", 1)])
def test_a_daemon_tells_how_it_went_when_it_knows(
    work, status, daemonize, written, plugin, tmp_path
):
    """The terminal is not free again before the reactor has run."""
    written("store: {kind: odd}\n")
    shown = daemonize("postoffice", env=plugin(MAKER % NEEDS_THE_REACTOR % work))
    assert shown.returncode == status
    assert ("store of kind odd failed to start: TemporaryFailure: no" in shown.stderr) == status
    log = (tmp_path / "twistd.log").read_text()
    assert ("the post office is open: " in log) == (not status)


def test_a_maker_without_keys(start, written, plugin, command):
    """A search for it says so; nobody else is disturbed."""
    without = (MAKER % "return None").replace("    keys = ", "    _keys = ")
    env = plugin(without)
    written("store: {kind: odd}\n")
    why = (
        "postoffice.yaml:9: store: the plugin of kind 'odd' failed: "
        "AttributeError: 'Maker' object has no attribute 'keys'\n"
    )
    checked = command("check-config", env=env)
    assert (checked.returncode, checked.stderr) == (2, why)
    office = start(env=env)
    assert office.end() == 1
    assert "".join(office.err) == f"The post office cannot open:\n{why}"
    written("")
    assert command("check-config", env=env).returncode == 0
