"""
What README and the manual tell to type is typed here.

Each block is an example of a configuration, which is read; a shell's, which is run in a sandbox,
or listed in NOT_RUN with the reason; or listed in OTHERS.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml
from click.testing import CliRunner

from postoffice.accounts.attempts import Allowance, Attempts
from postoffice.accounts.login_db import LoginDB
from postoffice.cli import main
from postoffice.config.loader import OTHER_PLACES, load
from postoffice.config.schema import keys_of
from postoffice.config.settings import Settings
from postoffice.daemon.plugin_makers import find_maker
from postoffice.model.log_events import EVENTS

ROOT = Path(__file__).parents[2]
PAGES = {page.name: page for page in (ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst")))}
PASSWORD = "a-password-of-the-manual"

LOG_LINE = "a line of the log"

#: Blocks that nobody types into a shell, by page and a part of them: what they are.
OTHERS = {
    ("addresses.rst", "same_as:"): "tests/accounts/test_address_resolution.py plays it",
    ("backup.rst", "MAILTO"): "a table of cron",
    ("proxies.rst", "virtual_mailbox_domains"): "Postfix's configuration",
    ("directories.rst", "uncaught:"): "tests/config/test_accounts_file.py reads it",
    ("directories.rst", "carl@"): "a passwd-file; tests/accounts/test_passwd_file.py reads it",
    ("log.rst", "message-taken id="): LOG_LINE,
    ("log.rst", '"program":"postoffice"'): "tests/daemon/test_log_json.py reads such lines",
    ("metrics.rst", "scrape_configs:"): "Prometheus' configuration",
    ("log.rst", "failregex"): "fail2ban's configuration",
    ("log.rst", "copytruncate"): "logrotate's configuration",
    ("plugins.rst", "kind: shelf"): "tests/trip/test_plugins.py opens one",
    ("plugins.rst", "@pytest.fixture"): "a fixture; tests/contracts run it over ours",
    ("policies.rst", "policy-refused id="): LOG_LINE,
    ("sending.rst", "->  SRS0="): "an address, before and after",
    ("quotas.rst", "quota       20 GiB"): "a line of `account show`",
    (
        "quotas.rst",
        "Your mailbox is ${percent}",
    ): "a letter; tests/store/test_notice_texts.py has one",
    ("tls.rst", "tls-failed id="): LOG_LINE,
    ("web.rst", "proxy_pass"): "nginx's configuration; tests/web/test_http.py asks like nginx",
}
#: How lines begin that are not run, and why; their syntax is looked at all the same.
NOT_RUN = {
    "python3 -m venv": "it asks the network; .ci/run installs it as README says",
    "/usr/bin/python3 -m venv": "it asks the network",
    "/opt/postoffice/bin/pip": "it asks the network",
    "postoffice quickstart": "tests/trip/test_quickstart.py runs it, elsewhere than in /etc",
    "/opt/postoffice/bin/postoffice quickstart": "the same, in README.rst",
    "systemctl": "it asks systemd",
    "packaging/build-deb": ".ci/run builds the package, and packaging/try-deb uses it",
    "apt install ./dist": "packaging/try-deb does, elsewhere",
    "podman": "the base of the container comes from a registry",
    "pip install 'postoffice[metrics]'": "it asks the network",
    ".venv/bin/pip": "it asks the network; tests/trip/test_plugins.py builds the plugin",
    ".venv/bin/python tests/": "a campaign of minutes; .ci/run has it",
    "git worktree add": "an earlier state of the sources, for a benchmark",
    ".venv/bin/python bench/": "it takes minutes, and both cores",
    "sudo .venv/bin/python bench/": "it takes a quarter of an hour, and both cores",
    "export PATH=": "it is of the shell that goes on",
    "useradd": "it changes the machine",
    "createuser": "it changes the machine",
    "createdb": "it changes the machine",
    "cd / && twistd": "tests/trip/test_run_it.py starts what init has made",
    "twistd -n": "the test starts it, with ports that are free",
    "cd first": "the test starts it there",
    "journalctl": "it asks systemd",
    "man -M": "there need be no man; tests look at what is installed",
    "source .venv/share": "it is of the shell that goes on",
    "RENEWED_LINEAGE": "a hook of certbot's, run by hand",
    "install -o": "a hook of certbot's",
    "awk -F": "tests/cli/test_import_of_others.py runs it",
    "sed '/^": "tests/cli/test_import_of_others.py runs it",
    "mysql": "tests/cli/test_import_of_others.py runs it",
    "dig +noall": "it asks the network; tests/trip/test_moving_guide.py has a stand-in",
    "#": "a comment",
}


#: What a configuration may begin a line with.
KEYS = {entry.name for entry in keys_of(Settings)}


WHO = pwd.getpwuid(os.geteuid()).pw_name


class Block(NamedTuple):
    page: str
    line: int
    text: str

    @property
    def at(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> Iterator[Block]:
    """The literal blocks of a page, and those that name a language."""
    lines = PAGES[page].read_text().split("\n")
    begins = re.compile(r"( *)(?!\.\. |  ).*:: ?$|( *)\.\. code-block::")
    for number, line in enumerate(lines, 1):
        if (found := begins.match(line)) is None:
            continue
        indent, inner = len(found[1] or found[2] or ""), []
        for below in lines[number:]:
            if below.strip() and len(below) - len(below.lstrip()) <= indent:
                break
            inner.append(below)
        yield Block(page, number, textwrap.dedent("\n".join(inner)).strip("\n"))


BLOCKS = [block for page in PAGES if page != "rfc.rst" for block in blocks(page)]


def is_other(block: Block) -> bool:
    return any(block.page == page and part in block.text for page, part in OTHERS)


def as_configuration(block: Block) -> dict | None:
    """The keys of a configuration; ``policies`` may be shown without their key."""
    try:
        said = yaml.safe_load(block.text)
    except yaml.YAMLError:
        return None
    if isinstance(said, list):
        return {"policies": said}
    return said if isinstance(said, dict) and said.keys() <= KEYS else None


CONFIGURATIONS = [block for block in BLOCKS if not is_other(block) and as_configuration(block)]
SHELL = [block for block in BLOCKS if not is_other(block) and block not in CONFIGURATIONS]


def lines(block: Block) -> list[str]:
    """The lines that somebody types: all, or those behind a ``$``; each with what continues it."""
    text = re.sub(r"\\\n\s*", "", block.text)
    text = re.sub(r"\|\n\s*", "| ", text)
    typed = [line for line in text.split("\n") if line.strip()]
    if typed[0].startswith("$ "):
        return [line[2:] for line in typed if line.startswith("$ ")]
    return typed


def test_the_tables_name_what_is_there():
    assert len(CONFIGURATIONS) > 10
    assert len(SHELL) > 25
    for page, part in OTHERS:
        assert any(block.page == page and part in block.text for block in BLOCKS), (page, part)
    typed = [line for block in SHELL for line in lines(block)]
    for begins in NOT_RUN:
        assert any(line.startswith(begins) for line in typed), begins


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=lambda block: block.at)
def test_an_example_of_a_configuration_is_right(block, tmp_path):
    said = as_configuration(block)
    least = {"hostname": "mail.example.net", "postmaster": "joe@example.net", "state": "state"}
    least["tls"] = {"certificates": [{"certificate": "mail.pem", "key": "key.pem"}]}
    (tmp_path / "provider.secret").write_text("secret\n")
    path = tmp_path / "postoffice.yaml"
    path.write_text(yaml.safe_dump({**least, **said}))
    load(str(path), find_maker)


def test_every_block_is_what_a_shell_understands():
    text = "\n".join(f"# {block.at}\n" + "\n".join(lines(block)) for block in SHELL)
    text = re.sub(r" \[-.*\]", "", text)  # options, as a grammar has them
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("page", "part"), [at for at, what in OTHERS.items() if what == LOG_LINE])
def test_a_line_of_the_log_is_one_that_the_daemon_writes(page, part):
    (text,) = [block.text for block in BLOCKS if block.page == page and part in block.text]
    event = EVENTS[part.partition(" ")[0]]
    keys = re.findall(r"\b(\w+)=", re.sub(r'"[^"]*"', "", text))
    assert keys == [field for field in event.fields if field in keys]


# -- the command's words ------------------------------------------------------

INLINE = [
    (page, words.replace("\n", " "))
    for page, path in PAGES.items()
    for words in re.findall(r"``postoffice ([a-z][^`]*)``", path.read_text())
]
MEANT = {"ADDRESS": "ann@example.net", "SIZE": "1GiB", "FILE": "there", "DIR": "there"}


def parse(words: list[str]) -> None:
    """Have click read a command line, and do nothing.  Raises ``click.UsageError``."""
    command: click.Command = main
    context = click.Context(main, info_name="postoffice")
    while isinstance(command, click.Group) and words:
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no such command: {name}")
        command, context = found, click.Context(found, info_name=name, parent=context)
    if not isinstance(command, click.Group):
        command.make_context(str(command.name), words, parent=context.parent)


@pytest.mark.parametrize(("page", "words"), INLINE)
def test_a_command_in_the_text_is_one(page, words):
    try:
        parse([MEANT.get(word, word) for word in shlex.split(words)])
    except click.MissingParameter:
        pass  # the text names the command alone


def is_ours(line: str) -> bool:
    return re.match(r"(?:\S*/)?postoffice ", line) is not None


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.at)
def test_the_commands_of_a_block_are_ours(block):
    for line in filter(is_ours, lines(block)):
        parse(shlex.split(line.replace("--user postoffice", f"--user {WHO}"))[1:])


# -- chapters, in their order -------------------------------------------------


@pytest.fixture
def office(tmp_path, monkeypatch):
    """A post office with mail, and the ``postoffice`` command in this process."""
    (tmp_path / "backup").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(OTHER_PLACES, str(tmp_path / "etc/postoffice/postoffice.yaml"))

    def run(line: str) -> str:
        if "postoffice quickstart" in line:  # tests/trip/test_quickstart.py runs it
            return ""
        line = line.replace(" --user postoffice", "")  # this process stays who it is
        line = re.sub(r"(?<!\S)(/etc|/var/lib|/backup|/srv)/", rf"{tmp_path}\1/", line)
        if re.search(r" account (?:add|passwd) (?!.*--generate)", line):
            line += " --password-stdin"  # there is no terminal to ask on
        words = shlex.split(line)[1:]
        result = CliRunner().invoke(main, words, input=PASSWORD, prog_name="postoffice")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, (line, result.output)
        return result.output

    return run


def furnish(office, root: Path) -> None:
    """What the chapters behind the first one take for granted."""
    office(
        "postoffice init /etc/postoffice --state /var/lib/postoffice"
        " --hostname mail.example.net --domain example.net"
    )
    for name in ("ann", "bob", "joe", "printer"):
        office(f"postoffice account add {name}@example.net")
    text = b"Subject: hello\r\n\r\nHow are you?\r\n"
    domain = root / "var/lib/postoffice/maildrops/example.net"
    sessions = ("18eb562c923", "expire", "purge")
    vaults = [f".vault/ann/{time.time():.0f}.{one}" for one in sessions]
    for number, folder in enumerate(["ann/new", "bob/new", "old/new", *vaults]):
        (domain / folder).mkdir(parents=True)
        for other in ("cur", "tmp") if folder.endswith("/new") else ():
            (domain / folder).with_name(other).mkdir()
        name = f"1769791000.M{number:06d}P1Q1R00000000.mail,S={len(text)},W={len(text)}"
        (domain / folder / name).write_bytes(text)
    for box in ("new", "cur"):
        (root / "srv/mail/ann/Maildir" / box).mkdir(parents=True)
    (root / "srv/mail/ann/Maildir/new/1769791000.old").write_bytes(text)
    (root / "srv/mail/ann/Maildir/dovecot-uidlist").write_text("3 V1 N2 Gx\n1 :1769791000.old\n")
    (root / "srv/mail/ann.tab").write_text("uid\tguid\n1\tx\n")
    (root / "srv/mail/ann.mbox").write_text("From x Sat Jan  3 01:05:34 1996\nSubject: x\n\n")
    (root / "srv/mail/all.csv").write_text(
        f"address,source\nann@example.net,{root}/srv/mail/ann/Maildir\n"
    )
    login_db = LoginDB(str(root / "var/lib/postoffice/logins.db"))
    login_db.open()
    attempts = Attempts(login_db, Allowance(100, 3600), Allowance(10, 60))
    attempts.take("joe@example.net", "192.0.2.7", time.time())
    attempts.wrong("joe@example.net", "192.0.2.7", time.time())
    login_db.close()


CHAPTERS = sorted({block.page for block in SHELL if any(map(is_ours, lines(block)))})
#: Run elsewhere here, with a daemon or with stand-ins.
#: test_dkim.py and test_outbound.py send; test_trace.py has a log; test_doctor.py has a DNS;
#: tests/cli/test_pop3_import.py, test_moving.py and test_moving_guide.py have old servers.
APART = {
    "moving.rst", "moving-pop3.rst",
    "backup.rst", "doctor.rst", "log.rst", "tls.rst", "upgrading.rst", "plugins.rst", "sending.rst",
}  # fmt: skip


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page not in APART])
def test_the_commands_of_a_chapter_do_what_it_says(page, office, tmp_path):
    if page not in ("README.rst", "install.rst"):
        furnish(office, tmp_path)
    for block in SHELL:
        if block.page != page:
            continue
        heads = [office(line).split("\n")[0] for line in filter(is_ours, lines(block))]
        shown = [line for line in block.text.split("\n") if line.isupper()]
        assert {" ".join(head.split()) for head in shown} <= {
            " ".join(head.split()) for head in heads
        }, block.at


def test_a_backup_is_made_and_put_back(office, tmp_path):
    furnish(office, tmp_path)
    typed = [line for block in SHELL if block.page == "backup.rst" for line in lines(block)]
    for line in filter(is_ours, typed):
        if line == "postoffice restore /backup/postoffice":  # on another machine
            for folder in ("etc/postoffice", "var/lib/postoffice"):
                (tmp_path / folder).rename(tmp_path / folder.replace("/", "-"))
        office(line)
    assert (tmp_path / "srv/po/state/accounts.db").exists()
    new = tmp_path / "var/lib/postoffice/maildrops/example.net/ann/new"
    assert len(os.listdir(new)) == 1
    office("postoffice check-config")


#: Run by the tests below, whole.
WHOLE = [
    block
    for block in SHELL
    if "curl" in block.text
    or block.text.startswith("grep ")
    or "systemctl" in block.text
    or "newer/" in block.text
]


@pytest.mark.parametrize("block", [b for b in SHELL if b not in WHOLE], ids=lambda block: block.at)
def test_what_is_not_run_is_listed(block):
    for line in lines(block):
        assert is_ours(line) or any(map(line.startswith, NOT_RUN)), line


def shell(text: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", text], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, (text, done.stderr)
    return done.stdout


def test_the_log_is_searched_as_it_says(tmp_path):
    (example,) = [block.text for block in BLOCKS if "message-taken id=" in block.text]
    refused = "2026-11-29T10:05:04+0000 [postoffice#info] refused id=1 recipient=<joe@example.net>"
    later = "2026-11-29T10:05:05+0000 [postoffice#info] deferred id=1.1 to=<joe@example.net> via=mx"
    log = re.sub(r"\n\s+", " ", example) + f"\n{refused}\n{later}\n"
    (tmp_path / "postoffice.log").write_text(log)
    searches = [block for block in WHOLE if block.text.startswith("grep ")]
    assert len(searches) > 3
    for block in searches:
        assert "[postoffice#info]" in shell(block.text, tmp_path), block.at


@pytest.fixture
def machine(tmp_path):
    """A machine of its own below a folder, with stand-ins for what would change the real one."""
    for folder in ("bin", "opt/postoffice/bin", "etc/postoffice", "etc/systemd/system"):
        (tmp_path / folder).mkdir(parents=True)
    stand_ins = [f"bin/{name}" for name in ("systemctl", "journalctl")]
    stand_ins += [f"opt/postoffice/bin/{name}" for name in ("pip", "postoffice")]
    for name in stand_ins:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "etc/postoffice/postoffice.yaml").write_text("before\n")
    journal = tmp_path / "var/lib/postoffice/maildrops/.journal"
    journal.mkdir(parents=True)

    def typed(block: Block) -> str:
        text = re.sub(r"(?<!\S)(?=/(?:etc|opt|var)/)", str(tmp_path), "\n".join(lines(block)))
        return shell(text, ROOT, tmp_path / "bin")

    return typed


def test_a_service_is_installed(machine, tmp_path):
    (block,) = [block for block in WHOLE if block.page == "install.rst" and "systemctl" in block.text]  # fmt: skip  # noqa: E501
    machine(block)
    assert (tmp_path / "etc/systemd/system/postoffice.service").exists()


def test_an_upgrade_and_the_way_back(machine, tmp_path):
    upgrade, back = (block for block in WHOLE if block.page == "upgrading.rst")
    machine(upgrade)
    state = tmp_path / "var/lib/postoffice"
    for name in ("accounts.db", "accounts.db-wal", "accounts.db.version-1"):
        (state / name).write_text(name)
    (tmp_path / "etc/postoffice/postoffice.yaml").write_text("behind\n")
    machine(back)
    assert (state / "accounts.db").read_text() == "accounts.db.version-1"
    assert sorted(os.listdir(state)) == ["accounts.db", "maildrops", "newer"]
    assert os.listdir(state / "maildrops") == []
    assert (tmp_path / "etc/postoffice/postoffice.yaml").read_text() == "before\n"


# -- with a daemon ------------------------------------------------------------


@pytest.fixture
def first(office, start, tmp_path):
    """The post office of ``tls.rst``, open on ports that are free, for the other chapters too."""
    (begin,) = [b for b in SHELL if b.page == "tls.rst" and "postoffice init first" in b.text]
    office(lines(begin)[0])
    path = tmp_path / "first" / "postoffice.yaml"
    said = yaml.safe_load(path.read_text())
    any_port = "tcp:0:interface=127.0.0.1"
    services = ("smtp", "submission", "submissions", "lmtp", "pop3", "pop3s")
    said["listeners"] = {service: [any_port] for service in services}
    said["listeners"]["pop3"] = [any_port, {"endpoint": any_port, "proxy_from": ["127.0.0.1"]}]
    path.write_text(yaml.safe_dump(said))
    there = f"--config {path}"
    office(f"postoffice account passwd postmaster@localhost {there}")
    office(f"postoffice account add demo@localhost {there}")
    office(f"postoffice domain add example.net {there}")
    office(f"postoffice account add ann@example.net {there}")
    opened = start("postoffice", "--config", str(path), cwd=path.parent).open()
    yield opened
    opened.check()


def test_curl_posts_and_collects(first):
    ports = {
        "2525": first.smtp, "2587": first.ports["submission"],
        "2110": first.pop3, "2995": first.ports["pop3s"],
    }  # fmt: skip
    typed = [block for block in WHOLE if "curl" in block.text]
    assert {block.page for block in typed} == {"proxies.rst", "install.rst", "tls.rst"}
    for block in typed:
        text = block.text.replace("PASSWORD", PASSWORD)
        text = re.sub(r"--user (\S+@[\w.]+)(?![\w.:])", rf"--user \1:{PASSWORD}", text)
        if "--haproxy" in text:
            text = text.replace("2110", str(first.places["pop3"][1]))
        for documented, real in ports.items():
            text = text.replace(f":{documented}", f":{real}")
        said = shell(text, first.folder)
        if "pop3" in text and "ann@" not in text:
            assert "Subject: hello" in said, block.at
