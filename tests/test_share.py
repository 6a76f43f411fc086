"""What is installed beside the package: man pages, and what shells complete with."""

from __future__ import annotations

import importlib.util
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from postoffice.cli import systemd_unit

ROOT = Path(__file__).parent.parent
SHARE = ROOT / "share"
PAGES = ["man1/postoffice.1", "man5/postoffice.yaml.5", "man8/postoffice.8"]
COMPLETIONS = {
    "bash": "bash-completion/completions/postoffice",
    "zsh": "zsh/site-functions/_postoffice",
    "fish": "fish/vendor_completions.d/postoffice.fish",
}
EVERY = [*(f"man/{page}" for page in PAGES), *COMPLETIONS.values()]
#: The programs of the environment that the tests run in.
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def made():
    spec = importlib.util.spec_from_file_location("share_make", SHARE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.every()


@pytest.mark.parametrize("page", PAGES)
def test_the_man_pages_say_what_the_code_says(made, page):
    assert (SHARE / "man" / page).read_text() == made[f"man/{page}"], "run python share/make.py"


def test_the_unit_is_what_quickstart_installs():
    there = (ROOT / "etc" / systemd_unit.NAME).read_text()
    assert there == systemd_unit.text(), "run python share/make.py"


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_the_shells_ask_the_command(made, shell):
    """How exactly is click's, and may be another version's."""
    for text in ((SHARE / COMPLETIONS[shell]).read_text(), made[COMPLETIONS[shell]]):
        assert f"_POSTOFFICE_COMPLETE={shell}_complete" in text


def test_nothing_else_is_there(made):
    assert sorted(made) == sorted(EVERY)
    there = {path for path in SHARE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert there == {SHARE / "make.py", *(SHARE / place for place in EVERY)}


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff here")
@pytest.mark.parametrize("page", PAGES)
def test_the_man_pages_are_shown_without_warnings(page):
    words = ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", SHARE / "man" / page]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (shown.returncode, shown.stderr) == (0, "")
    text = re.sub(".\b", "", shown.stdout)  # bold is struck over
    for head in ("NAME", "DESCRIPTION", "FILES", "SEE ALSO"):
        assert f"\n{head}\n" in text
    assert "`" not in text


def test_every_command_and_key_has_its_place(made):
    command, configuration = (made[f"man/{page}"] for page in PAGES[:2])
    for words in ("account device add", "maildrop verify", r"check\-config", r"auth\-failures"):
        assert f'.SS "postoffice {words}"' in command
    for key in ("hostname", "limits.wrong_passwords", "store: kind maildir"):
        assert f'.SS "{key}"' in configuration


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["mail"], "maildrop"),
        (["maildrop", "ve"], "verify"),
        (["maildrop", "list", "--js"], "--json"),
    ],
)
def test_bash_completes(tmp_path, words, offered):
    script = (
        f'source "{SHARE / COMPLETIONS["bash"]}"; COMP_WORDS=(postoffice "$@"); '
        '''COMP_CWORD=$#; _postoffice_completion postoffice; printf '%s\\n' "${COMPREPLY[@]}"'''
    )
    path = f"{BIN}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        timeout=60,
    )
    assert (done.stdout.split(), done.stderr) == ([offered], "")


#: What is offered, test_bash_completes tries; here it is that each shell asks, again and again.
LINES = [("postoffice maild", "maildrop"), ("postoffice maildrop ver", "verify")]


def path_with_command() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm"}


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish here")
def test_fish_completes(tmp_path):
    line, offered = LINES[1]
    script = f'source "{SHARE / COMPLETIONS["fish"]}"; complete -C "{line}"'
    env = {**path_with_command(), "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60,
    )  # fmt: skip
    assert ([line.split("\t")[0] for line in done.stdout.splitlines()], done.stderr) == (
        [offered], "",
    )  # fmt: skip


def read_until(terminal: int, wanted: str) -> str:
    """What a terminal shows until this is there; escapes are left out."""
    shown = ""
    while wanted not in shown:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, shown
        shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]", "", os.read(terminal, 4096).decode())
    return shown


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh here")
def test_zsh_completes(tmp_path):
    """On a terminal, where alone it completes; Ctrl-U takes each line away again."""
    parent, child = pty.openpty()
    zsh = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=child, stdout=child, stderr=child, cwd=tmp_path,
        env={**path_with_command(), "HOME": str(tmp_path)}, start_new_session=True,
    )  # fmt: skip
    os.close(child)
    try:
        functions = SHARE / Path(COMPLETIONS["zsh"]).parent
        os.write(parent, f"fpath=({functions} $fpath); autoload -Uz compinit\n".encode())
        os.write(parent, b"compinit -D -u; PS1='read''y> '\n")
        read_until(parent, "ready> ")
        for line, offered in LINES:
            os.write(parent, line.encode() + b"\t")
            read_until(parent, f"{line.rpartition(' ')[0]} {offered} ")
            os.write(parent, b"\x15")
    finally:
        zsh.kill()
        zsh.wait()
        os.close(parent)


def test_pip_puts_them_in_place(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("postoffice", "twisted", "share"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    words = [sys.executable, "-c", build, str(tmp_path)]
    subprocess.run(words, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    installed = {n.partition(".data/data/share/")[2] for n in names if ".data/data/" in n}
    assert installed == set(EVERY)
