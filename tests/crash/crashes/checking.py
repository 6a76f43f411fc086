"""A crash state is looked at: a store is started on it, and asked for what was promised."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from glob import glob
from random import Random
from typing import Any
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from crashes.disk import Disk, Model
from crashes.operations import Note
from crashes.promises import ENDED, MARKS, QUEUE, Found, Promises
from crashes.recorder import Recorder
from crashes.world import COLLECTED, JOE, Kind, envelope, machine, queued, read, text_of
from postoffice.store import maildir, names, retention, vault
from postoffice.store.files import JOURNAL, LATE
from postoffice.store.journal import segments
from postoffice.store.maildir_store import CHECKPOINT_INTERVAL
from postoffice.store.quota.usage_file import FILE as QUOTA
from postoffice.testing import ImmediateExecutor, finish


@dataclass(frozen=True)
class State:
    """What a crash left, of a store of this kind; ``cut``: the power, not only the process."""

    disk: Disk
    kind: Kind
    promises: Promises
    texts: dict[str, bytes]
    cut: bool
    boot: str


class Looking:
    """Looks at states, each in a folder of its own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._count = 0

    def problems(self, state: State) -> list[str]:
        """What is wrong with a store that starts from it."""
        with self._place(state) as root, _quick(), _logged() as said:
            boot = f"behind {state.boot}" if state.cut else state.boot
            with machine(boot):
                problems = self._look(root, state)
            return problems + said

    def again(self, state: State, random: Random, most: int) -> Iterator[State]:
        """
        What the power may leave that goes once more: while the store starts from it, when it is
        open, and while it checkpoints what it has recovered.
        """
        clock = Clock()
        with self._place(state) as root, _logged(), machine(f"behind {state.boot}"):
            with Recorder(root) as recorder:
                store = state.kind.store(root, ImmediateExecutor(), clock)
                finish(store.start())
                seen = _mail(store, state, Found()).mail
                for name, tokens in seen.items():
                    recorder.note("seen", name, tokens=tuple(tokens))
                opened = len(recorder.trace)
                clock.advance(CHECKPOINT_INTERVAL)
            recorder.check()
            finish(store.stop())
        points = list(range(len(recorder.trace) + 1))
        if len(points) > most:
            points = [*random.sample(points, most - 1), opened]
        model, promises = Model(recorder.base), state.promises.copy()
        for at, operation in enumerate([*recorder.trace, None]):
            if at in points:
                for disk in model.states(random, 2):
                    yield State(
                        disk, state.kind, promises.copy(), state.texts, True, f"again {state.boot}"
                    )
            if isinstance(operation, Note):
                promises.hear(operation)
            elif operation is not None:
                model.do(operation)

    @contextmanager
    def _place(self, state: State) -> Iterator[str]:
        self._count += 1
        root = f"{self._folder}/{self._count}"
        state.disk.write(root)
        try:
            yield root
        finally:
            shutil.rmtree(root)

    def _look(self, root: str, state: State) -> list[str]:
        clock = Clock()
        store = state.kind.store(root, ImmediateExecutor(), clock)
        try:
            finish(store.start())
        except Exception as error:
            return [f"it does not start: {error!r}"]
        try:
            found = _mail(store, state, Found())
            _beside(root, state, found)
            _due(root, store, state, found)
            problems = state.promises.broken_by(found)
            problems += _goes_on(store, state, clock)
        finally:
            finish(store.stop())
        before = _maildrops(root, state)
        left = f"{root}/{JOURNAL}/large"
        if os.path.isdir(left) and os.listdir(left):
            problems.append("large texts are left over")
        store = state.kind.store(root, ImmediateExecutor(), clock)
        finish(store.start())
        finish(store.stop())
        if before != _maildrops(root, state):
            problems.append("another start, after a clean stop, has changed something")
        return problems


def _maildrops(root: str, state: State) -> dict[str, bytes]:
    """What lies in the maildrops, by place."""
    found = {}
    for name in state.promises.names():
        folder = f"{root}/{names.folder_of(name)}"
        for place in maildir.subpaths(folder).values():
            with open(f"{folder}/{place}", "rb") as file:
                found[f"{name}/{place}"] = file.read()
    for folder in ("messages", "marks"):
        for place in glob(f"{root}/.queue/{folder}/new/*"):
            with open(place, "rb") as file:
                found[place] = file.read()
    return found


def _mail(store: Any, state: State, found: Found) -> Found:
    """What a client is told of each maildrop."""
    for name in state.promises.names():
        maildrop = store.maildrop(name)
        for entry in finish(maildrop.open()).entries:
            try:
                text = read(maildrop, entry)
            except Exception as error:
                found.problems.append(f"{name}: {entry} cannot be read: {error!r}")
                continue
            found.mail.setdefault(name, []).append(_token(text, state, found, name))
        maildrop.release()
    _queue(store, state, found)
    return found


def _queue(store: Any, state: State, found: Found) -> None:
    """What is in the queue, and with which marks."""
    there = queued(store)
    messages = finish(store.queue.read([name for name, _ in there]))
    for (name, text), message in zip(there, messages, strict=True):
        token = _token(text, state, found, "the queue")
        found.mail.setdefault(QUEUE, []).append(token)
        if message is None:
            found.problems.append(f"the queue: {name} cannot be read")
        else:
            marks = [f"{token}:{number}" for number in sorted(message.done)]
            found.mail.setdefault(MARKS, []).extend(marks)
    left = found.mail.get(QUEUE, [])
    ended = [one for name, one in state.promises.stages if name == ENDED and one not in left]
    found.mail.setdefault(ENDED, []).extend(ended)
    if finish(store.queue.usage())[0] != len(there):
        found.problems.append("the queue is counted wrong")


def _token(text: bytes, state: State, found: Found, where: str) -> str:
    for token, one in state.texts.items():
        if one == text:
            return token
    found.problems.append(f"{where} has {len(text)} octets that nobody sent: {text[:60]!r}")
    return "?"


def _beside(root: str, state: State, found: Found) -> None:
    """What lies in the store that no client sees."""
    for part in ("messages/tmp", "marks/tmp", "intents", "aside"):
        found.problems += [f"leftover: {path}" for path in glob(f"{root}/.queue/{part}/*")]
    for path, _, files in os.walk(f"{root}/{LATE}"):
        found.problems += [f"put aside: {path}/{file}" for file in files]
    for name in state.promises.names():
        place = names.folder_of(name)
        folder = f"{root}/{place}"
        if os.path.isdir(f"{folder}/tmp") and os.listdir(f"{folder}/tmp"):
            found.problems.append(f"{name}: leftovers in tmp")
        domain, local = place.split("/")
        kept = [vault.path_of(folder)]
        aside = f"{root}/.removed/{domain}"
        if os.path.isdir(aside):
            some = [one for one in os.listdir(aside) if one.startswith(f"{local}.")]
            kept += [f"{aside}/{one}/{box}" for one in some for box in ("new", "cur")]
        for above in kept:
            for path, _, files in os.walk(above):
                for file in files:
                    with open(f"{path}/{file}", "rb") as message:
                        token = _token(message.read(), state, found, path)
                    found.kept.setdefault(name, []).append(token)
        if os.path.exists(f"{folder}/{QUOTA}"):
            _count(folder, found)


def _due(root: str, store: Any, state: State, found: Found) -> None:
    """What would go because it was collected."""
    for name in state.promises.names():
        folder = f"{root}/{names.folder_of(name)}"
        maildrop = store.maildrop(name)
        finish(maildrop.open())
        for entry in retention._due(folder, COLLECTED)[0]:
            token = _token(read(maildrop, entry), state, found, name)
            found.due.setdefault(name, []).append(token)
        maildrop.release()


def _count(folder: str, found: Found) -> None:
    """Maildir++: a line of limits, then lines of octets and messages that came or went."""
    with open(f"{folder}/{QUOTA}", encoding="ascii") as file:
        lines = [re.match(r"\s*(-?\d+) +(-?\d+)\s*$", line) for line in file.readlines()[1:]]
    if not all(lines):
        found.problems.append(f"{folder}/{QUOTA} cannot be read")
        return
    said = tuple(sum(int(line[part]) for line in lines if line) for part in (1, 2))
    files = [f"{folder}/{place}" for place in maildir.subpaths(folder).values()]
    is_so = (sum(map(os.path.getsize, files)), len(files))
    if said != is_so:
        found.problems.append(f"{folder}/{QUOTA} says {said}, it is {is_so}")


def _goes_on(store: Any, state: State, clock: Clock) -> list[str]:
    """Mail is taken in, and collected, after a crash as before."""
    state.texts["after"] = text_of("after")
    problems = []
    everybody = state.promises.names() or [JOE]
    try:
        delivery = finish(store.begin(envelope(*everybody, QUEUE)))
        finish(delivery.write(state.texts["after"]))
        finish(delivery.commit())
        clock.advance(CHECKPOINT_INTERVAL)
    except Exception as error:
        return [f"nothing can be posted: {error!r}"]
    for name in everybody:
        maildrop = store.maildrop(name)
        last = finish(maildrop.open()).entries[-1]
        if read(maildrop, last) != state.texts["after"]:
            problems.append(f"{name} did not get what was posted then")
        maildrop.release()
    name, text = queued(store)[-1]
    if text != state.texts["after"]:
        problems.append("the queue did not get what was posted then")
    finish(store.queue.finish(name, [0, 1], whole=True))
    return problems


@contextmanager
def _quick() -> Iterator[None]:
    """Nothing is synced: what is looked at will not be crashed."""
    with ExitStack() as patches:
        for name in ("fsync", "fdatasync"):
            patches.enter_context(patch.object(os, name, lambda fd: None))
        patches.enter_context(patch.object(segments, "sync_all", lambda fd: None))
        yield


@contextmanager
def _logged() -> Iterator[list[str]]:
    """What was logged as an error."""
    said: list[str] = []

    def watch(event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            said.append(f"logged: {formatEvent(event)}")

    globalLogPublisher.addObserver(watch)
    try:
        yield said
    finally:
        globalLogPublisher.removeObserver(watch)
