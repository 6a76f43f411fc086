"""What clients were told, note by note, and what a store must have of it after a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from crashes.operations import Note

#: One message in one maildrop: the maildrop's name, the message's token.
One = tuple[str, str]
#: Stand for maildrops: the queue; the marks of its messages (``TOKEN:RECIPIENT``); those of its
#: messages that are not there any more.
QUEUE, MARKS, ENDED = OF_QUEUE = ("queue", "marks", "ended")


class Stage(Enum):
    """How far a message has come, in one of its maildrops."""

    COMING = "coming"  # there or not
    THERE = "there"
    LEAVING = "leaving"  # there or not
    GONE = "gone"
    RETURNING = "returning"  # there, or kept


@dataclass
class Found:
    """What a store holds, by maildrop: whole messages, by token; and what else there is."""

    mail: dict[str, list[str]] = field(default_factory=dict)
    kept: dict[str, list[str]] = field(default_factory=dict)  # in the vault, or set aside
    problems: list[str] = field(default_factory=list)
    due: dict[str, list[str]] = field(default_factory=dict)  # that would go: they were collected


@dataclass
class Promises:
    """
    ``atomic``: all or none holds over crashes, and what was seen stays (the journal).

    ``keeps``: what is removed lies in the vault.
    ``_whole`` is all there or not at all, also without the journal.  ``_ends`` has what comes
    with a mark, or the end of a message: the letters of each attempt.
    """

    atomic: bool
    keeps: bool = False
    stages: dict[One, Stage] = field(default_factory=dict)
    _together: list[set[One]] = field(default_factory=list)
    _whole: list[set[One]] = field(default_factory=list)
    _ends: dict[One, list[set[One]]] = field(default_factory=dict)
    _kept: set[One] = field(default_factory=set)
    _collected: set[One] = field(default_factory=set)

    def copy(self) -> Promises:
        """Another, that hears other things from here on."""
        return Promises(
            self.atomic,
            self.keeps,
            dict(self.stages),
            list(self._together),
            list(self._whole),
            {end: list(attempts) for end, attempts in self._ends.items()},
            set(self._kept),
            set(self._collected),
        )

    def names(self) -> list[str]:
        """All maildrops that were ever heard of."""
        return sorted({name for name, _ in self.stages} - {*OF_QUEUE})

    def hear(self, note: Note) -> None:
        """One thing that was said."""
        these = {(name, token) for name in note.names for token in note.tokens}
        match note.what:
            case "posting":
                self._set(these, Stage.COMING)
                self._together.append(these)
            case "posted":
                self._set(these, Stage.THERE)
            case "finishing" | "finished":
                self._hear_finish(set(zip(note.names, note.tokens, strict=True)), note.what)
            case "removing":
                self._set(these, Stage.LEAVING)
                self._together.append(these)
                if self.keeps:
                    self._kept |= these
            case "discarding" | "setting aside":
                these = {one for one in self._in(note.names) if self.stages[one] is Stage.THERE}
                self._set(these, Stage.LEAVING)
                self._together.append(these)
                if note.what == "setting aside":
                    self._kept |= these
            case "crowding":  # each by itself
                self._set(these, Stage.LEAVING)
                if self.keeps:
                    self._kept |= these
            case "undeleting":
                gone = [one for one in self._in(note.names) if self.stages[one] is Stage.GONE]
                self._set(gone, Stage.RETURNING)
            case "undeleted":
                self._set(self._in(note.names), Stage.THERE)
                self._collected -= self._in(note.names)
            case "collecting":
                self._collected |= these
            case "removed":
                self._set(these, Stage.GONE)
            case "discarded":
                self._set(self._in(note.names), Stage.GONE)
            case "failed":
                pass  # it may have taken effect all the same
            case "seen":
                for one in self._in(note.names) if self.atomic else ():
                    seen = one[1] in note.tokens
                    self.stages[one] = Stage.THERE if seen else Stage.GONE
            case _:
                raise AssertionError(f"nobody says {note.what}")

    def _hear_finish(self, these: set[One], what: str) -> None:
        """Letters come with a mark, or with the end of a message in the queue."""
        going: set[One] = set()
        for ended in [token for name, token in these if name == ENDED]:
            marks = {one for one in self._in([MARKS]) if one[1].partition(":")[0] == ended}
            going |= {(QUEUE, ended), *marks}
        if what == "finishing":
            sure = {one for one in going if self.stages[one] is Stage.THERE}
            self._set(these, Stage.COMING)
            self._set(going, Stage.LEAVING)
            self._whole.append(sure)
            end = next(one for one in these if one[0] in (ENDED, MARKS))
            self._ends.setdefault(end, []).append(these - {end})
        else:
            self._set(these, Stage.THERE)
            self._set(going, Stage.GONE)

    def _in(self, names: Iterable[str]) -> set[One]:
        return {one for one in self.stages if one[0] in names}

    def _set(self, these: Iterable[One], stage: Stage) -> None:
        self.stages.update(dict.fromkeys(these, stage))

    def broken_by(self, found: Found) -> list[str]:
        """In what a store has broken them."""
        problems = list(found.problems)
        mail = {name: Counter(tokens) for name, tokens in found.mail.items()}
        kept = {name: Counter(tokens) for name, tokens in found.kept.items()}
        for one, stage in sorted(self.stages.items()):
            name, token = one
            count = mail.get(name, Counter())[token]
            if count > 1:
                problems.append(f"{name} has {token} {count} times")
            if stage is Stage.THERE and not count:
                problems.append(f"{name} has lost {token}")
            if stage is Stage.GONE and count:
                problems.append(f"{name} has {token} again")
            if one in self._kept:
                aside = kept.get(name, Counter())[token]
                if aside > 1 or not (aside or count):
                    problems.append(f"{token} of {name} was to be kept, and is {aside} times")
        for name, tokens in mail.items():
            problems += [f"{name} has {one}" for one in tokens if (name, one) not in self.stages]
        for name, tokens in found.due.items():
            early = [one for one in tokens if (name, one) not in self._collected]
            problems += [f"{one} of {name} would go, and nobody has it" for one in early]
        together = self._together if self.atomic else []
        problems += self._halves(mail, [*together, *self._whole])
        return problems + list(self._half_ends(mail))

    def _half_ends(self, mail: dict[str, Counter[str]]) -> Iterator[str]:
        """The letters of one attempt are all there if the end is, and none are if it is not."""
        for end, attempts in self._ends.items():
            those = {end}.union(*attempts)
            if {self.stages[one] for one in those} - {Stage.COMING, Stage.THERE}:
                continue  # a letter, or a marked message, was removed since
            there = [
                {one for one in its if mail.get(one[0], Counter())[one[1]]} for its in attempts
            ]
            if any(some and some != its for some, its in zip(there, attempts, strict=True)):
                yield f"of the letters that come with {end} only {there} are there"
            ended = bool(mail.get(end[0], Counter())[end[1]])
            if any(attempts) and ended is not any(map(bool, there)):
                yield f"{end} {'is' if ended else 'is not'} there, with the letters {there}"

    def _halves(self, mail: dict[str, Counter[str]], together: list[set[One]]) -> list[str]:
        problems = []
        for these in together:
            stages = {self.stages[one] for one in these}
            there = {one for one in these if mail.get(one[0], Counter())[one[1]]}
            if len(stages) == 1 and Stage.RETURNING not in stages and there not in (these, set()):
                missing = sorted(these - there)
                problems.append(f"of what goes together {sorted(there)} is there, {missing} not")
        return problems
