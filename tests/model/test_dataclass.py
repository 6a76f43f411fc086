"""``dataclass`` makes the same classes as the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import sys
from dataclasses import field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.dataclass import dataclass

OPTIONS = [
    {"frozen": frozen, "eq": eq, "slots": slots, "kw_only": kw_only}
    for frozen in (False, True)
    for eq in (False, True)
    for slots in (False, True)
    for kw_only in (False, True)
]
MAKERS = {"ours": dataclass, "standard": dataclasses.dataclass}


def sample(make, **options):
    """A class with every kind of field."""

    class Sample:
        """What it is."""

        first: int
        second: str = "two"
        third: list[int] = field(default_factory=list)
        fourth: int = field(default=4, kw_only=True)
        fifth: int = field(default=5, repr=False, compare=False)
        sixth: dict[str, int] = field(default_factory=dict, init=False, compare=False)
        seventh: int = field(init=False, default=7)

    return make(**options)(Sample)


def both(build):
    """What the two make of the same."""
    return build(dataclass), build(dataclasses.dataclass)


def outcome(call):
    """What a call returns, in words, or the error that it raises."""
    try:
        return repr(call())
    except Exception as error:
        return type(error), str(error)


def mistaken(options):
    """Whether Python 3.11's own class raises TypeError for the name of no field."""
    return options["frozen"] and options["slots"]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_class_looks_and_acts_alike(options):
    ours, standard = both(lambda make: sample(make, **options))
    assert str(inspect.signature(ours)) == str(inspect.signature(standard))
    assert ours.__init__.__annotations__ == standard.__init__.__annotations__
    assert ours.__match_args__ == standard.__match_args__
    assert ours.__doc__ == standard.__doc__
    assert getattr(ours, "__slots__", None) == getattr(standard, "__slots__", None)
    assert (ours.__hash__ is None) == (standard.__hash__ is None)
    names = [one.name for one in dataclasses.fields(standard)]
    assert [one.name for one in dataclasses.fields(ours)] == names

    def acts(cls):
        one, same, other = cls(first=1), cls(first=1, fifth=0), cls(first=2, second="b")
        yield repr(one)
        yield (one == same, one == other, one != same, one == (1,))
        if options["eq"]:
            yield outcome(lambda: hash(one) == hash(same))
        yield repr(replace(one, first=3, third=[1]))
        yield dataclasses.asdict(other), dataclasses.astuple(other)
        yield repr(copy.deepcopy(other))
        yield outcome(lambda: setattr(one, "first", 2))
        if not mistaken(options):
            yield outcome(lambda: setattr(one, "new", 2))
        yield outcome(lambda: delattr(one, "second"))
        yield outcome(lambda: cls())
        yield outcome(lambda: cls(1))
        yield outcome(lambda: cls(first=1, unknown=2))
        assert cls(first=1).third is not cls(first=1).third

    assert list(acts(ours)) == list(acts(standard))


@pytest.mark.parametrize("options", OPTIONS)
def test_a_subclass_inherits_and_a_plain_one_may_add(options):
    def build(make):
        base = sample(make, **options)

        class Derived(base):
            eighth: int = 8

        return make(**options)(Derived), type("Plain", (base,), {})

    def acts(build):
        derived, plain = build
        one = derived(first=1, eighth=9)
        yield repr(one), one == derived(first=1, eighth=9), one == derived(first=1)
        yield outcome(lambda: setattr(one, "first", 2)), outcome(lambda: setattr(one, "eighth", 2))
        if mistaken(options):
            return
        added = plain(first=1)
        yield outcome(lambda: setattr(added, "extra", 2)), added.extra
        yield outcome(lambda: setattr(added, "first", 2)), outcome(lambda: delattr(added, "first"))
        yield outcome(lambda: delattr(added, "extra"))

    ours, standard = both(build)
    assert list(acts(ours)) == list(acts(standard))


def test_nothing_can_be_added_to_a_frozen_object_with_slots():
    with pytest.raises(dataclasses.FrozenInstanceError, match="field 'new'"):
        Kept(1).new = 2


def test_methods_of_the_class_itself_stay():
    def build(make, **options):
        @make(**options)
        class Own:
            value: int

            def __eq__(self, other):
                return True

            def __repr__(self):
                return "own"

            def __post_init__(self):
                object.__setattr__(self, "value", self.value + 1)

        return Own

    for options in ({}, {"frozen": True}, {"eq": False}):
        ours, standard = both(lambda make, options=options: build(make, **options))
        for cls in (ours, standard):
            assert repr(cls(1)) == "own"
            assert cls(1).value == 2
            assert cls(1) == 5
        assert outcome(lambda cls=ours: hash(cls(1))) == outcome(lambda cls=standard: hash(cls(1)))

    @dataclass(frozen=True)
    class Hashed:
        value: int

        def __hash__(self):
            return 42

    assert hash(Hashed(1)) == 42


def test_an_object_that_holds_itself_can_be_shown():
    @dataclass
    class Knot:
        held: object

    knot = Knot(None)
    knot.held = knot
    assert repr(knot).endswith("Knot(held=...)")


def test_a_class_without_words_gets_its_name():
    @dataclass
    class Wordless:
        value: int

    assert Wordless.__doc__ == "Wordless"


@dataclass(frozen=True, slots=True)
class Kept:
    """For ``pickle``, which finds classes by their names."""

    number: int
    text: str = ""


@given(st.integers(), st.text())
def test_objects_are_kept_and_compared_by_their_values(number, text):
    one = Kept(number, text)
    assert pickle.loads(pickle.dumps(one)) == one == copy.copy(one)
    assert hash(one) == hash((number, text))
    assert len({one, Kept(number, text)}) == 1


def test_the_types_of_parameters_can_be_looked_up():
    """As Hypothesis does for ``st.builds``."""
    assert inspect.signature(Kept).parameters["number"].annotation == "int"
    assert Kept.__init__.__globals__ is sys.modules[__name__].__dict__
