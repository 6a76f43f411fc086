"""What is loaded before root becomes another, and what that user cannot read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from postoffice.daemon import preload, privileges

ROOT = Path(preload.__file__).parent.parent.parent
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_codecs_and_modules_are_there_without_a_look_at_a_file():
    program = """
import builtins, sys
from postoffice.daemon import preload as early
early.load()
sys.path[:], sys.path_importer_cache = [], {}
sys.meta_path[:] = []
for codec in ("ascii", "idna", "punycode", "koi8-r", "shift_jis", "gb2312", "cp1252"):
    "a".encode(codec)
from email import generator, parser, policy
import concurrent.futures
concurrent.futures.ThreadPoolExecutor
import postoffice.store.quota.notice_texts, postoffice.daemon.lifecycle
import dns.rdata
for record in ("A 192.0.2.1", "AAAA ::1", "MX 10 a.", "TXT a", "CNAME a.", "TLSA 0 0 0 0a"):
    kind, _, value = record.partition(" ")
    assert type(dns.rdata.from_text("IN", kind, value)) is not dns.rdata.GenericRdata, kind
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@ROOT_ONLY
@pytest.mark.parametrize("where", ["a folder", "a file", "the interpreter"])
def test_what_the_user_cannot_read_is_told(monkeypatch, where):
    nobody = privileges.Identity.named("nobody")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "closed" / "lib"
        folder.mkdir(parents=True)
        Path(name).chmod(0o755)
        module = folder / "module.py"
        module.touch()
        loaded = {"module": SimpleNamespace(__file__=str(module))}
        system = SimpleNamespace(modules=loaded, executable="/bin/sh")
        monkeypatch.setattr(preload, "sys", system)
        with privileges.acting(nobody):
            assert preload.complaint("nobody") == ""
        if where == "a folder":
            (Path(name) / "closed").chmod(0o700)
            closed = f"{name}/closed"
        elif where == "a file":
            module.chmod(0o600)
            closed = str(module)
        else:
            python = folder / "python"
            python.touch(0o644)
            system.executable = str(python)
            closed = str(python)
        with privileges.acting(nobody):
            said = preload.complaint("nobody")
        assert re.search(rf"where user nobody cannot read it: {closed};", said)
