"""One case: a post office at work, a fault in the middle of it, and what is asked afterwards."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from crashes.disk import Disk, Model
from crashes.recorder import Recorder
from crashes.world import GatheringWorkers, Kind, machine, read
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from faults.counters import DOMAIN, NAMES, Counters, Silent
from faults.finding import beside
from faults.layer import Call, Fault, Layer
from faults.ledger import Held, Ledger, text_of
from postoffice.store.files import LATE
from postoffice.store.journal.filesystem import JOURNAL
from postoffice.store.maildir_store import CHECKPOINT_INTERVAL
from postoffice.store.names import uidl_of_file
from postoffice.testing import ImmediateExecutor, finish

#: Those whose maildrops are there from the beginning.
OLD = tuple(name for name in NAMES if name != "new")
LARGE = 600_000


class Scene:
    """
    A store in a folder of its own, and its clients; everything is recorded.

    ``problems`` has what nobody should have heard or seen.
    """

    def __init__(self, folder: str, kind: Kind) -> None:
        self.root = f"{folder}/store"
        self.kind = kind
        self.ledger = Ledger(atomic=kind.durability == JOURNAL)
        self.problems: list[str] = []
        self.executor = GatheringWorkers()
        self.office: Counters
        self._folder = folder
        self._fault: Fault | None = None
        self._files: list[str] = []  # that a post office has open which is at rest
        self._count = 0
        self._settled = self.ledger
        self.listed: dict[str, list[tuple[str, str]]] = {}  # UIDL and token of what lies there
        self.refusing: list[Path] = []  # messages that are immutable
        self.refused_to_start = self._lasted = False
        self._refused: list[tuple[str, tuple[str, ...]]] = []
        os.mkdir(folder)
        os.mkdir(self.root)
        self._context, self._recording = ExitStack(), ExitStack()
        self._context.enter_context(self._recording)
        self._recording.enter_context(machine("one"))
        self.recorder = self._recording.enter_context(Recorder(self.root))
        self.layer = self._recording.enter_context(Layer(self.recorder))
        globalLogPublisher.addObserver(self._logged)
        self._context.callback(globalLogPublisher.removeObserver, self._logged)

    def close(self) -> None:
        self._context.close()

    def _logged(self, event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None:
            where = event["log_failure"].getTraceback().strip().splitlines()
            self.problems.append(f"logged: {formatEvent(event)}: {where[-1]}; {where[-3].strip()}")

    # -- what happens -----------------------------------------------------------------

    def start(self) -> None:
        """Open; also behind a stop or a kill."""
        self.office = Counters(self.root, self.kind, self.executor)
        finish(self.office.store.start())

    def abandon(self) -> None:
        """The process was killed: its locks and files are the system's again."""
        journal = self.office.store._journal
        if journal._files.joined:
            journal._files.leave()

    def furnish(self) -> None:
        """A post office that has been at work for a while, and all it has is on the disk."""
        self.start()
        for size in (400, 3000):
            self.post(*OLD, size=size)
        self.post("joe", size=LARGE)
        self._foreign("joe")
        for name in OLD:
            client = self.office.pop3(name)
            client.login()
            client.ask(b"QUIT")
            client.leave()
        self.checkpoint()
        self.list_all()
        self._files = _open_files()

    def list_all(self) -> None:
        """Remember what lies in the maildrops."""
        for name, held in _mail(self.office).items():
            self.listed[name] = [(one.uidl, self.ledger.seen(name, one)) for one in held]

    def _foreign(self, name: str) -> None:
        """Another program's message: with LF, and nothing said of its size."""
        token = self.token(500)
        self.ledger.posting(token, [name])
        with open(f"{self.root}/{DOMAIN}/{name}/cur/1700000000.foreign.h:2,S", "wb") as file:
            file.write(text_of(token).replace(b"\r\n", b"\n"))
        self.ledger.posted(token, name)

    def token(self, size: int) -> str:
        """Of another message."""
        self._count += 1
        return f"m{self._count}.{size}"

    def checkpoint(self) -> None:
        """The time has come to."""
        self.office.clock.advance(CHECKPOINT_INTERVAL)

    def post(self, *names: str, size: int = 400, apart: bool = False) -> None:
        """Over SMTP, or (``apart``) LMTP."""
        poster = self.office.lmtp() if apart else self.office.smtp()
        token = self.token(size)
        self._heard(token, names, poster.post(self.ledger, token, *names), apart=apart)
        poster.leave()

    def post_together(self, *messages: tuple[str, ...]) -> None:
        """While the workers have their hands full: all but two go in one group."""
        posters = [(self.office.smtp(), names, self.token(400)) for names in messages]
        begun = []
        for poster, names, token in posters:
            no = poster.begin(self.ledger, token, *names)
            if no:
                self._heard(token, names, no)
            else:
                begun.append((poster, names, token))
        with self.executor.gathering():
            for poster, _, _ in begun:
                poster.say(b".\r\n")
        for poster, names, token in begun:
            self._heard(token, names, poster.end(self.ledger))
        for poster, _, _ in posters:
            poster.leave()

    def _heard(
        self, token: str, names: tuple[str, ...], replies: list[str], *, apart: bool = False
    ) -> None:
        no = [one for one in replies if not one.startswith("250")]
        if apart and len(replies) == len(names):
            no_for = [name for name, one in zip(names, replies, strict=True) if one in no]
            self._refused += [(token, (name,)) for name in no_for]
        elif no:
            self._refused.append((token, names))
        for one in no:
            expected = "452 4.3.1" if self._space else "451 4.3.0"
            if self._fault is None or not one.startswith(expected):
                self.problems.append(f"{token} for {', '.join(names)}: {one}")

    @property
    def _space(self) -> bool:
        return self._fault is not None and self._fault.kind in ("ENOSPC", "EDQUOT")

    def expect_pop3(self, what: str, said: str) -> bool:
        """Whether it is +OK; else it must be a temporary failure, and a fault the reason."""
        if said.startswith("+OK"):
            return True
        if self._fault is None or not said.startswith("-ERR [SYS/TEMP]"):
            self.problems.append(f"{what}: {said.strip()}")
        return False

    # -- one case -----------------------------------------------------------------------

    def play(self, act: Callable[[Scene], None], fault: Fault | None = None) -> list[Call]:
        """Act, with this fault, and ask; what was called, as it was counted."""
        self.recorder.rest()
        self._fault = fault
        try:
            with self.layer.watching(fault) as calls:
                act(self)
        except Silent as silent:
            self.problems.append(f"in the middle: {silent}")
        self._fault, self._lasted = None, fault is not None and fault.lasting
        if self.refused_to_start:
            self.start()
        cuts = [(len(self.recorder.trace), self.ledger.copy())]
        self._goes_on()
        cuts.append((len(self.recorder.trace), self.ledger.copy()))
        self._again()
        self._recording.close()
        for number, (end, ledger) in enumerate(cuts):
            self.problems += self._after_power_cut(end, ledger, Random(number))
        return calls

    def _goes_on(self) -> None:
        """The fault is over: mail is taken in and collected as before, without a restart."""
        try:
            self.checkpoint()  # what waited for this is put right
            self.post(*NAMES)
            self.post(*NAMES, apart=True)
            self._look()
            self.checkpoint()
        except (Silent, AssertionError) as wrong:
            self.problems.append(f"behind it: {wrong}")
            return
        gc.collect(0)
        now = _open_files()
        if len(now) > len(self._files):
            self.problems.append(f"files were left open: {sorted(set(now) - set(self._files))}")

    def _look(self) -> None:
        """
        What was refused is nowhere, unless what went wrong was still wrong when it was undone.

        After an error of the disk it may have taken effect all the same, later.
        """
        settled = self.ledger.copy()
        self.problems += [f"live: {one}" for one in settled.check(_mail(self.office))]
        for token, names in self._refused:
            seen = [name for name in names if settled.is_there(name, token)]
            if seen and not self._lasted:
                self.problems.append(f"{token} was refused, and is in {', '.join(seen)}")
            if not seen:
                settled.posting(token, names, apart=True)
        self._settled = settled

    def _after_power_cut(self, end: int, ledger: Ledger, random: Random) -> list[str]:
        """What is wrong with the disk as it may be left there."""
        model = Model(self.recorder.base)
        for operation in self.recorder.trace[:end]:
            model.do(operation)
        disks = [model.plain(names=bool(random.randrange(2)), octets=False)]
        disks += model.states(random, 1)
        problems = []
        for disk in disks:
            problems += self._look_at(disk, ledger.copy())
        return [f"power cut at {end} of {len(self.recorder.trace)}: {one}" for one in problems]

    def _look_at(self, disk: Disk, ledger: Ledger) -> list[str]:
        self._count += 1
        root = f"{self._folder}/{self._count}"
        disk.write(root)
        with machine("another"):
            store = self.kind.store(root, ImmediateExecutor(), Clock())
            try:
                finish(store.start())
                problems = ledger.check({name: _held(store, name) for name in NAMES})
            except Exception as wrong:
                return [f"{wrong!r}"]
            finish(store.stop())
        return problems

    def _again(self) -> None:
        """Nothing is left over; a clean stop and a start change nothing."""
        try:
            finish(self.office.store.sweep())
            finish(self.office.store.stop())
            self.problems += beside(Path(self.root), NAMES)
            self.start()
            self.problems += [
                f"restarted: {one}" for one in self._settled.check(_mail(self.office))
            ]
            finish(self.office.store.stop())
        except (Silent, AssertionError) as why:
            self.problems.append(f"at the end: {why}")


def _mail(office: Counters) -> dict[str, list[Held]]:
    """What everybody has."""
    found = {}
    for name in NAMES:
        client = office.pop3(name)
        said = client.login()
        assert said.startswith("+OK"), f"{name} hears {said.strip()}"
        found[name] = _with_aside(client.everything(), office.store._path, name)
        client.ask(b"QUIT")
        client.leave()
    return found


def _held(store: Any, name: str) -> list[Held]:
    """What somebody has, asked without a counter: that is quicker."""
    maildrop = store.maildrop(f"{name}@{DOMAIN}")
    held = [Held(one.uidl, read(maildrop, one)) for one in finish(maildrop.open()).entries]
    maildrop.release()
    return _with_aside(held, store._path, name)


def _with_aside(held: list[Held], store: str, name: str) -> list[Held]:
    """
    And what a start could not put into a maildrop, and has told: that is not lost.

    It may be there all the same, where only the process was killed.
    """
    there = {one.uidl for one in held}
    paths = Path(f"{store}/{LATE}/{DOMAIN}/{name}/new").glob("*")
    aside = [Held(uidl_of_file(path.name), path.read_bytes()) for path in paths]
    return held + [one for one in aside if one.uidl not in there]


def _open_files() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{fd}: {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:
            pass
    return found
