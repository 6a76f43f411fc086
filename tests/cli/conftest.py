"""The `postoffice` command in this process, and a post office that it has made."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from click.testing import CliRunner

from postoffice.accounts import passwords
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.cli import main
from postoffice.daemon import plugin_makers
from postoffice.protocol import scram
from postoffice.store import files, vault
from postoffice.testing import ImmediateExecutor, finish
from tests.cli.backups import ANN, BOB, EVE, name_of, put

INIT = "init . --hostname mail.example.net --domain example.net"


@pytest.fixture(scope="session", autouse=True)
def known_makers():
    """Plugins are looked for once: each command would look again, in all folders of Python."""
    found = {interface: plugin_makers.makers(interface) for interface in plugin_makers.WHAT}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugin_makers, "_remembered", found)
        yield


@pytest.fixture(scope="module", autouse=True)
def cheap_hashes():
    """
    Hashes of the kinds that we always use, but little work: hundreds of accounts are added here.

    What they cost is tested in ``tests/accounts`` and ``tests/trip``.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "MEMORY", 64)
        patch.setattr(passwords, "PASSES", 1)
        cheap = PasswordHasher(time_cost=1, memory_cost=64, parallelism=passwords.LANES)
        patch.setattr(passwords, "_HASHER", cheap)
        patch.setattr(scram.derive, "__defaults__", (None, 4096))
        yield


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command; with ``status``, what it must exit with."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, status: int = 0, text: str | bytes | None = None):
        result = CliRunner().invoke(main, words, input=text, prog_name="postoffice")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return run


def split(command: str) -> tuple[list[str], str]:
    """The words of a command; what stands on a second line is what it reads."""
    words, _, text = command.partition("\n")
    return shlex.split(words), text


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """Makes post offices by init and more commands: by the same ones once, to be copied."""
    made: dict[tuple[str, ...], Path] = {}

    def template(*commands: str) -> Path:
        if commands not in made:
            folder = tmp_path_factory.mktemp("template")
            with chdir(folder):
                for command in (INIT, *commands):
                    words, text = split(command)
                    result = CliRunner().invoke(main, words, input=text, prog_name="postoffice")
                    assert result.exit_code == 0, result.output
            made[commands] = folder
        return made[commands]

    return template


@pytest.fixture
def furnish(run, templates, tmp_path):
    """Makes a post office by init and these commands, which are run only where there is one."""

    def furnish(*commands: str) -> Path:
        if not (tmp_path / "postoffice.yaml").exists():
            shutil.copytree(templates(*commands), tmp_path, dirs_exist_ok=True)
        else:
            for command in commands:
                words, text = split(command)
                run(*words, text=text)
        return tmp_path

    return furnish


@pytest.fixture
def office(furnish):
    """A post office that init has made, in the folder that commands are run in."""
    return furnish()


@pytest.fixture
def ann(furnish):
    """The maildrop of an account, which is not there yet."""
    office = furnish(f"account add {ANN} --generate")
    return office / "state" / "maildrops" / "example.net" / "ann"


@pytest.fixture
def ask(run):
    """What a command answers, as an object."""

    def ask(*words: str, **more):
        return json.loads(run(*words, "--json", **more).stdout)

    return ask


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """An office with accounts in two domains; to make one takes its time."""
    folder = tmp_path_factory.mktemp("template")

    def run(*words, text=None):
        config = ("--config", str(folder / "postoffice.yaml")) if words[0] != "init" else ()
        result = CliRunner().invoke(main, [*words, *config], input=text)
        assert result.exit_code == 0, result.output

    run("init", str(folder), "--hostname", "mail.example.net", "--domain", "example.net")
    run("domain", "add", "example.org")
    for name in (ANN, BOB, EVE):
        run("account", "add", name, "--password-stdin", text=f"secret of {name}\n")
    run("account", "set", ANN, "--generate-shared-secret")
    run("account", "set", ANN, "--quota", "12MiB")
    run("account", "device", "add", ANN, "phone")
    return folder


@pytest.fixture
def here(run, template, tmp_path):
    """The office, with mail and all else that may lie in a store."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "state" / "maildrops" / ".journal")
    drops = tmp_path / "state" / "maildrops"
    ann = drops / "example.net" / "ann"
    first = put(ann, 1, b"Subject: to both\r\n\r\nx\r\n")
    files.make(str(drops / "example.net" / "bob"))
    os.link(first, drops / "example.net" / "bob" / "new" / first.name)
    put(ann, 2, b"Subject: read\r\n\r\n", "cur", ":2,S")
    put(ann, 3, b"x" * ((3 << 20) - 2) + b"\r\n")
    put(drops / "example.org" / "eve", 4, b"Subject: eve\r\n\r\n")
    (ann / "postoffice.collected").write_bytes(b"a note\n")
    (ann / ".Sent" / "cur").mkdir(parents=True)
    (ann / ".Sent" / "cur" / "1.of.another:2,S").write_bytes(b"sent\r\n")
    (ann / "tmp" / "half").write_bytes(b"half a mess")
    vault.make(f"{drops}/example.net/.vault/ann/1700000000.session", sync=False)
    kept = drops / "example.net" / ".vault" / "ann" / "1700000000.session" / name_of(5, 3)
    kept.write_bytes(b"x\r\n")
    (drops / ".removed" / "example.net" / "old.1" / "cur").mkdir(parents=True)
    (drops / ".removed" / "example.net" / "old.1" / "cur" / "1.x").write_bytes(b"kept\r\n")
    return tmp_path


@pytest.fixture
def directory(office):
    """The accounts, as the daemon has them."""
    path, key = (str(office / "state" / f"accounts.{kind}") for kind in ("db", "key"))
    directory = SQLiteDirectory(path, ImmediateExecutor(), key)
    finish(directory.start())
    yield directory
    finish(directory.stop())
