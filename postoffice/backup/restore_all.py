"""Restores a whole post office to an empty place: state and mail, then the configuration."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import yaml

from postoffice.backup.manifest import BackupError, Header
from postoffice.backup.reader import Checked, extract
from postoffice.config import loader
from postoffice.config.reader import FindMaker
from postoffice.daemon import control_socket, new_files, privileges
from postoffice.store import maildrop_folders
from postoffice.store.files import FOLDERS, make_folder
from postoffice.store.journal.segments import sync_all

#: The folder for files that are being extracted, in the folder where they will be.
STAGING = ".restoring"
_STATE_LINE = re.compile(r"^state:[^\n]*$", re.MULTILINE)


@dataclass
class RestorePlan:
    """Where a backup is restored to."""

    config: str  # "" if the backup has no configuration
    text: bytes
    state: str
    store: str
    user: str | None
    aside: list[str] = field(default_factory=list)  # the new names of what was there

    @property
    def inside(self) -> bool:
        """Whether the mail is in the state folder."""
        return self.store.startswith(f"{self.state}/")

    @property
    def bases(self) -> list[str]:
        """The folders that hold all state and mail."""
        return [self.state] if self.inside else [self.state, self.store]


def plan(
    scratch: str, header: Header, to: str | None, state: str | None, find_maker: FindMaker
) -> RestorePlan:
    """
    Return the destinations, by the configuration in the backup, a copy of which is in ``scratch``.

    ``to`` is another path for the configuration, ``state`` one for the state folder.
    Raises BackupError, ConfigurationError.
    """
    if not header["config"]:
        if to:
            raise BackupError("there is no configuration in it: give --state alone")
        home = os.path.abspath(state or header["state"])
        return RestorePlan("", b"", home, f"{home}/maildrops", None)
    file = os.path.abspath(to or header["config"])
    copy = f"{scratch}/config/{os.path.basename(header['config'])}"
    with open(copy, "rb") as it:
        text = it.read()
    if state:
        text = _with_state(text, os.path.abspath(state))
        with open(copy, "wb") as changed:
            changed.write(text)
    settings = loader.load(copy, find_maker)
    os.rename(copy, f"{scratch}/config/{os.path.basename(file)}")
    here, there = f"{scratch}/config", os.path.dirname(file)

    def moved(path: str) -> str:
        return there + path[len(here) :] if f"{path}/".startswith(f"{here}/") else path

    home = moved(settings.state)
    if state and home != os.path.abspath(state):
        raise BackupError("its configuration says `state` in a way that --state cannot change")
    store = settings.store.options.get("path")
    if not store:
        raise BackupError("the store in its configuration has no files")
    return RestorePlan(file, text, home, moved(store), settings.user)


def _with_state(text: bytes, state: str) -> bytes:
    line = "state: " + yaml.safe_dump(state, default_style='"').strip()
    found, number = _STATE_LINE.subn(lambda _: line, text.decode("utf-8-sig"), count=1)
    return (found if number else f"{line}\n{found}").encode()


def clear_destination(plan: RestorePlan, force: bool) -> None:
    """
    Check that nothing is at the destinations; with ``force`` rename what is there.

    Raises BackupError.
    """
    busy = [path for path in plan.bases if os.path.isdir(path) and os.listdir(path)]
    busy += [path for path in plan.bases if os.path.lexists(path) and not os.path.isdir(path)]
    if plan.config and os.path.lexists(plan.config):
        busy.append(plan.config)
    if not busy:
        return
    if not force:
        raise BackupError(
            f"{', '.join(busy)}: something is there already; --force renames it, --config and "
            "--state restore the backup elsewhere"
        )
    if _is_open(plan.state):
        raise BackupError(f"a post office runs on {plan.state}: stop it first")
    for path in filter(os.path.lexists, busy):  # the configuration may have gone with the state
        plan.aside.append(f"{path}.before-restore-{time.time_ns() // 10**9}")
        os.rename(path, plan.aside[-1])


def _is_open(state: str) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as other:
        other.connect(control_socket.place(state))
        return True
    return False


def put_in_place(checked: Checked, plan: RestorePlan, step: Callable[[int], None]) -> int:
    """
    Restore state and mail, as the user of the post office; return how many files.

    Raises OSError.
    """
    who = privileges.owner_of(plan.user, plan.state)
    if privileges.is_root():
        for base in plan.bases:
            new_files.folder(base, 0o700, who)
            if who is not None:
                new_files.give(base, who)
    with privileges.acting(who):
        for base in plan.bases:
            os.makedirs(base, mode=0o700, exist_ok=True)
            shutil.rmtree(f"{base}/{STAGING}", ignore_errors=True)
            os.mkdir(f"{base}/{STAGING}", 0o700)
        try:
            number = _extract(checked, plan, step)
            for base in plan.bases:
                _move_up(base)
        finally:
            for base in plan.bases:
                shutil.rmtree(f"{base}/{STAGING}", ignore_errors=True)
    return number


def _extract(checked: Checked, plan: RestorePlan, step: Callable[[int], None]) -> int:
    state = f"{plan.state}/{STAGING}"
    mail = state + plan.store[len(plan.state) :] if plan.inside else f"{plan.store}/{STAGING}"
    roots = {"mail": mail, "state": state}

    number = extract(checked, lambda root, path: _under(roots.get(root), path), step)
    for folder in maildrop_folders.maildrops(mail):
        if any(os.path.isdir(f"{folder}/{box}") for box in FOLDERS):
            for box in FOLDERS:
                make_folder(f"{folder}/{box}")
    return number


def _under(folder: str | None, path: str) -> str | None:
    return None if folder is None else f"{folder}/{path}"


def _move_up(base: str) -> None:
    """Make all extracted files durable, then move them to their places."""
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_all(fd)
        for name in os.listdir(f"{base}/{STAGING}"):
            os.rename(f"{base}/{STAGING}/{name}", f"{base}/{name}")
        os.rmdir(f"{base}/{STAGING}")
        sync_all(fd)
    finally:
        os.close(fd)


def write_configuration(plan: RestorePlan, scratch: str) -> tuple[list[str], list[str]]:
    """
    Restore the configuration, and the files beside it and elsewhere that it names.

    Existing files stay.  Returns the files that were written, and complaints.
    """
    written: list[str] = []
    complaints: list[str] = []
    if not plan.config:
        return written, complaints
    who = privileges.owner_of(plan.user, plan.state)
    roots = {"config": os.path.dirname(plan.config), "machine": "/"}
    pairs = []
    for root, there in roots.items():
        for folder, _, files in os.walk(f"{scratch}/{root}"):
            path = os.path.join(there, folder[len(f"{scratch}/{root}") :].lstrip("/"))
            pairs += [(f"{folder}/{file}", os.path.join(path, file)) for file in files]
    # the configuration comes last: without it no daemon starts
    pairs.sort(key=lambda pair: (pair[1] == plan.config, pair[1]))
    for copy, path in pairs:
        try:
            if _write(copy, path, who):
                written.append(path)
            else:
                complaints.append(f"{path} is there already, and is another: it stays as it is")
        except OSError as error:
            complaints.append(f"{path} cannot be written: {error.strerror}")
    return written, complaints


def _write(copy: str, path: str, who: privileges.Identity | None) -> bool:
    with open(copy, "rb") as it:
        octets = it.read()
    if os.path.lexists(path):
        with open(path, "rb") as it:
            return it.read() == octets
    new_files.folder(os.path.dirname(path), 0o750 if who else 0o700, who, group_only=True)
    with new_files.file(path, 0o640 if who else 0o600, who, group_only=True) as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    return True


def scratch_of(checked: Checked, files: Sequence[str]) -> tempfile.TemporaryDirectory[str]:
    """Return a private folder with a copy of the files under these roots in the backup."""
    scratch = tempfile.TemporaryDirectory(prefix="postoffice-")
    try:
        extract(
            checked,
            lambda root, path: f"{scratch.name}/{root}/{path}" if root in files else None,
            lambda _: None,
        )
    except BaseException:
        scratch.cleanup()
        raise
    return scratch
