"""What a post office does while something goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crashes.world import UNLIMITED, Kind

from faults.counters import DOMAIN
from faults.ledger import Held
from faults.refusing import make_immutable, messages
from faults.scene import LARGE, Scene
from postoffice.model.address import Quota
from postoffice.model.errors import PostOfficeError, StartupError
from postoffice.store.expunge import AT_ONCE
from postoffice.store.journal.filesystem import FILES, JOURNAL
from postoffice.testing import finish

ROOMY = Quota(10 << 20, 1000, "reject")


@dataclass(frozen=True)
class Action:
    """``before`` is all well; then ``act`` is played with a fault, once for each of its calls."""

    act: Callable[[Scene], None]
    before: Callable[[Scene], None] = lambda scene: None
    quota: Quota = UNLIMITED
    undelete: float = 0.0
    durabilities: tuple[str, ...] = (JOURNAL, FILES)

    def kind(self, durability: str) -> Kind:
        return Kind(durability, undelete=self.undelete, quota=self.quota)


def login(scene: Scene, name: str = "joe") -> None:
    """PASS, and away."""
    client = scene.office.pop3(name)
    scene.expect_pop3("PASS", client.login())
    client.leave()


def retrieve(scene: Scene) -> None:
    """All that is there: what says +OK and ends as it should is whole."""
    client = scene.office.pop3("joe")
    if scene.expect_pop3("PASS", client.login()):
        uidls = client.uidls()
        for number, uidl in enumerate(uidls, 1):
            answer, text = client.retrieve(number)
            if scene.expect_pop3("RETR", answer) and text is not None:
                try:
                    scene.ledger.seen("joe", Held(uidl, text))
                except AssertionError as wrong:
                    scene.problems.append(f"RETR: {wrong}")
            if client.cut:
                break
    client.leave()


def remove(scene: Scene, part: slice = slice(0, 2)) -> None:
    """DELE some of it, QUIT.  They are looked at before anything goes wrong."""
    client = scene.office.pop3("joe")
    if scene.expect_pop3("PASS", client.login()):
        tokens = list(scene.listed["joe"])[part]
        uidls = client.uidls()
        numbers = [uidls.index(uidl) + 1 for uidl, _ in tokens]
        said = client.remove(scene.ledger, [token for _, token in tokens], numbers)
        scene.expect_pop3("QUIT", said)
    else:
        client.leave()


def start(scene: Scene) -> None:
    """A start that fails says so, and lets go of everything."""
    try:
        scene.start()
    except (StartupError, PostOfficeError, OSError):
        finish(scene.office.store.stop())
        scene.refused_to_start = True


def _killed(scene: Scene) -> None:
    """With mail that is in the journal only."""
    scene.post("joe", "ann")
    scene.post("joe", size=LARGE)
    remove(scene, slice(0, 1))
    scene.abandon()


def _refuse(scene: Scene) -> list[Path]:
    """No message of Joe's can go any more: these are immutable."""
    refusing = messages(Path(scene.root) / DOMAIN / "joe")
    for path in refusing:
        make_immutable(path)
    return refusing


def _give_in(refusing: list[Path]) -> None:
    for path in refusing:
        make_immutable(path, immutable=False)


def _refused(scene: Scene) -> None:
    """A removal and, behind a kill, a message are set aside."""
    refusing = _refuse(scene)
    remove(scene)
    scene.checkpoint()
    _give_in(refusing)
    _put_aside_a_message(scene)


def _put_aside_a_message(scene: Scene) -> None:
    scene.post("joe")
    scene.abandon()
    new = Path(scene.root) / DOMAIN / "joe" / "new"
    make_immutable(new)
    try:
        scene.start()
        scene.checkpoint()
    finally:
        make_immutable(new, immutable=False)


def _set_aside(scene: Scene) -> None:
    """What a QUIT has removed cannot go: that is written down, whatever fails meanwhile."""
    try:
        scene.checkpoint()
    finally:
        _give_in(scene.refusing)


def _removed_and_refused(scene: Scene) -> None:
    scene.refusing = _refuse(scene)
    remove(scene)


def _refused_and_killed(scene: Scene) -> None:
    _refused(scene)
    scene.abandon()


def _stopped(scene: Scene) -> None:
    finish(scene.office.store.stop())


def _many(scene: Scene) -> None:
    for _ in range(AT_ONCE + 1):
        scene.post("joe")
    scene.list_all()


ACTIONS = {
    "one": Action(lambda scene: scene.post("joe")),
    "several": Action(lambda scene: scene.post("joe", "ann", "bob")),
    "large": Action(lambda scene: scene.post("joe", size=LARGE)),
    "large, several": Action(lambda scene: scene.post("joe", "ann", size=LARGE)),
    "LMTP, several": Action(lambda scene: scene.post("joe", "ann", "bob", apart=True)),
    "LMTP, large": Action(lambda scene: scene.post("joe", "ann", size=LARGE, apart=True)),
    "a group": Action(
        lambda scene: scene.post_together(
            ("joe",), ("ann",), ("bob",), ("joe", "ann"), ("bob",), ("joe",)
        )
    ),
    "a new maildrop": Action(lambda scene: scene.post("new", "joe")),
    "with quotas": Action(lambda scene: scene.post("joe", "ann"), quota=ROOMY),
    "login": Action(login),
    "a first login": Action(lambda scene: login(scene, "new")),
    "RETR": Action(retrieve),
    "QUIT": Action(remove),
    "QUIT, with quotas": Action(remove, quota=ROOMY),
    "QUIT, with a vault": Action(remove, undelete=86400.0),
    "QUIT, of many": Action(lambda scene: remove(scene, slice(0, None)), before=_many),
    "retiring": Action(
        Scene.checkpoint, before=lambda scene: scene.post("joe", "ann"), durabilities=(JOURNAL,)
    ),
    "setting aside": Action(_set_aside, before=_removed_and_refused, durabilities=(JOURNAL,)),
    "a login behind a refusal": Action(login, before=_refused, durabilities=(JOURNAL,)),
    "a start behind a refusal": Action(start, before=_refused_and_killed, durabilities=(JOURNAL,)),
    "a start": Action(start, before=_stopped),
    "a start behind a kill": Action(start, before=_killed),
}
