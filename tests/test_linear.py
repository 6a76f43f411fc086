"""Whatever reads octets of senders takes work that grows with them and no faster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

import pytest

from postoffice.model.errors import PermanentFailure
from postoffice.protocol import downgrade, encoded_fields, sasl
from postoffice.protocol.downgrade import (
    HEADER_MAXIMUM,
    INTERNATIONAL_MAXIMUM,
    Downgrader,
    growth_of,
    with_header_converted,
)
from postoffice.protocol.proxy import NotProxied, ProxyReader
from postoffice.protocol.scram import PREPARED_MAXIMUM, prepared
from postoffice.protocol.wire import (
    BareLineEnd,
    ChunkReader,
    DotWriter,
    FieldCounter,
    LineReader,
    LineTooLong,
    TextReader,
    TopReader,
)
from postoffice.smtp import grammar
from postoffice.smtp.header import Completion, MessageIDReader
from postoffice.store.text import Normalizer
from postoffice.testing import cut


class Counted(bytes):
    """Octets that count those that are copied or searched; what is made of them does, too."""

    touched = 0

    @classmethod
    def _made(cls, octets: bytes) -> Counted:
        Counted.touched += len(octets)
        return cls(octets)

    def _bounds(self, start: int = 0, stop: int | None = None) -> tuple[int, int]:
        return slice(start, stop).indices(len(self))[:2]

    def __add__(self, other: Any) -> Counted:
        return self._made(bytes(self) + bytes(other))

    def __radd__(self, other: Any) -> Counted:
        return self._made(bytes(other) + bytes(self))

    def __getitem__(self, key: Any) -> Any:
        found = bytes.__getitem__(self, key)
        return self._made(found) if isinstance(found, bytes) else found

    def find(self, sub: Any, *bounds: Any) -> int:
        found = bytes.find(self, sub, *bounds)
        start, stop = self._bounds(*bounds)
        Counted.touched += max((stop if found < 0 else found) - start, 0) + 1
        return found

    def rfind(self, sub: Any, *bounds: Any) -> int:
        found = bytes.rfind(self, sub, *bounds)
        start, stop = self._bounds(*bounds)
        Counted.touched += max(stop - (start if found < 0 else found), 0) + 1
        return found

    def count(self, *given: Any) -> int:
        Counted.touched += len(self)
        return bytes.count(self, *given)

    def lower(self) -> Counted:
        return self._made(bytes.lower(self))

    def replace(self, *given: Any) -> Counted:
        return self._made(bytes.replace(self, *given))

    def split(self, *given: Any) -> list[Any]:
        return [self._made(part) for part in bytes.split(self, *given)]


def steps_of(work: Callable[[], object]) -> int:
    """Operations of Python that some work takes, and octets that it touches of ``Counted``."""
    operations = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal operations
        if frame.f_code.co_filename == __file__:
            return trace
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        operations += event == "opcode"
        return trace

    before, Counted.touched = sys.gettrace(), 0
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return operations + Counted.touched


#: Pieces of which senders make much.
UNITS = [
    b"x",
    b" ",
    b"\r\n",
    b"\r\n.",
    b"\r\n.\r",
    b"\r",
    b"\n",
    b"\r\n ",
    b"a:\r\n",
    b"received:\r\n",
    b"message-id\r\n",
    b"bcc: x\r\n",
    b"\xc3\xbc",
    b"\xff",
    b"<",
    b'"',
    b"\\",
    b"(",
    b"a@b,",
]


def much(unit: bytes, octets: int) -> bytes:
    return (unit * (octets // len(unit) + 1))[:octets]


def feed(reader, octets: bytes, size: int):
    """Give a reader octets in pieces of one size."""
    for piece in cut(octets, range(0, len(octets), size)):
        reader.feed(Counted(piece))


def text(octets, size):
    reader = TextReader(1000)
    for piece in cut(octets, range(0, len(octets), size)):
        if not reader.ended:
            reader.feed(Counted(piece))


def chunks(octets, size):
    feed(ChunkReader(1000), octets, size)


def hops(octets, size):
    feed(FieldCounter(b"received"), octets, size)


def top(octets, size):
    feed(TopReader(10**9), octets, size)


def line_ends(octets, size):
    feed(Normalizer(), octets, size)


def dots(octets, size):
    writer = DotWriter()
    for piece in cut(octets, range(0, len(octets), size)):
        writer.write(Counted(piece))


def completion(octets, size):
    reader = Completion(b"Date: x\r\n", b"Message-ID: <x>\r\n")
    with suppress(PermanentFailure):
        feed(reader, octets, size)
        reader.end()


def message_id(octets, size):
    reader = MessageIDReader()
    for piece in cut(octets, range(0, len(octets), size)):
        reader.feed(piece)
    reader.found()


def lines(octets, size):
    reader = LineReader(1000)
    for piece in cut(octets, range(0, len(octets), size)):
        reader.receive(Counted(piece))
        more = True
        while more:
            with suppress(LineTooLong, BareLineEnd):
                more = reader.next() is not None


def conversion(octets, size):
    feed(downgrader := Downgrader(), octets, size)
    downgrader.end()


@pytest.mark.parametrize("size", [1 << 20, 50])
@pytest.mark.parametrize(
    "work",
    [text, chunks, hops, top, line_ends, dots, completion, message_id, lines, conversion],
)
def test_readers_are_linear_whole_and_in_pieces(work, size):
    def steps(unit, octets):
        return steps_of(lambda: work(much(unit, octets), size))

    for unit in UNITS:
        assert steps(unit, 5000) <= 12 * steps(unit, 500) + 1000, unit


FIELDS = [
    "ü",
    "ü ",
    " ü",
    "ü<a>,",
    '"ü"<a>,',
    '"ü',
    '"ü" ',
    "(ü)",
    "(ü",
    "((ü))",
    "ü:",
    "ü;",
    ",",
    "<",
    "<a@ü:b:b",
    ":b",
    "\\ü",
    "=?",
    "\r\n ü",
    "\r\n\tx",
    "@",
    "a@b (ü), ",
    "ü\t,",
]


@pytest.mark.parametrize("begin", ["To: é", 'To: "é', "To: é <", "To: <a@é:", "To: (é", "X-Y: é"])
def test_the_conversion_of_a_field_is_linear(begin):
    def steps(unit, octets):
        field = begin.encode() + much(unit.encode(), octets) + b"\r\n"
        return steps_of(lambda: encoded_fields.converted(field))

    for unit in FIELDS:
        assert steps(unit, 4000) <= 12 * steps(unit, 400) + 250, unit


@pytest.mark.parametrize("unit", FIELDS[::3])
def test_no_message_takes_more_work_than_the_worst_header(unit):
    """It is done on the reactor's thread: octets are counted before anything else is done."""
    one = f"To: ü <a>,{unit}\r\n".encode()
    end = b"\r\n\r\n"
    worst = steps_of(lambda: with_header_converted(much(one, INTERNATIONAL_MAXIMUM) + end))
    for octets in (HEADER_MAXIMUM, 10 * HEADER_MAXIMUM):
        steps = steps_of(lambda n=octets: growth_of(much(one, n) + end))
        assert steps < 2 * worst + 200_000
    assert worst < 1_000_000


def test_the_pattern_of_a_field_never_goes_back():
    """Every repetition keeps what it took."""
    parsed = _parser.parse(downgrade._FIELD.pattern)
    assert set(repetitions(parsed)) == {codes.POSSESSIVE_REPEAT}


def repetitions(parsed):
    for code, given in parsed:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            yield code
        for part in given if isinstance(given, tuple) else ():
            if isinstance(part, _parser.SubPattern):
                yield from repetitions(part)


@pytest.mark.parametrize(
    "unit",
    ["a", "a.", "@a,", "\\", '"', " ", "<", ">", "A=B ", "ü", "[", ":", "+2B", "\\x{41}", ",", ";"],
)
@pytest.mark.parametrize("read", ["mail", "rcpt", "hello", "xclient", "envid", "notify", "orcpt"])
def test_the_grammar_is_linear(unit, read):
    def work(octets):
        argument = much(unit.encode(), octets).decode(errors="ignore")
        with suppress(PermanentFailure):
            if read == "mail":
                grammar.mail(f"<{argument}@b> {argument}", ("SIZE",))
            elif read == "rcpt":
                grammar.rcpt(f"<{argument}", utf8=True)
            elif read == "envid":
                grammar.mail(f"<a@b> ENVID={argument}", ("ENVID",))
            elif read in ("notify", "orcpt"):
                parameter = f"{read}={'utf-8;' * (read == 'orcpt')}{argument}"
                grammar.rcpt(f"<a@b> {parameter}", ("NOTIFY", "ORCPT"), utf8=True)
            elif read == "hello":
                grammar.hello(argument)
            else:
                grammar.xclient(f"ADDR=1.1.1.1 {argument}")

    few, many = (steps_of(lambda n=n: work(n)) for n in (200, 2000))
    assert many <= 12 * few + 1000


@pytest.mark.parametrize("begin", [b"", b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x08\x00"])
@pytest.mark.parametrize("unit", [b"\0", b"1 ", b"1.", b":", b"\xff"])
def test_the_header_of_a_balancer_is_linear(begin, unit):
    def work(octets):
        reader = ProxyReader()
        with suppress(NotProxied):
            feed(reader, begin + much(unit, octets), 1 << 20)

    few, many = (steps_of(lambda n=n: work(n)) for n in (20_000, 200_000))
    assert many <= 12 * few + 500


@pytest.mark.parametrize("mechanism", sasl.MECHANISMS)
def test_messages_of_mechanisms_are_linear(mechanism):
    def steps(octets):
        exchange = sasl.exchange(mechanism, hostname="x", bindings={}, plus=False)
        exchange.send(None)
        with suppress(sasl.Malformed, sasl.Refused, StopIteration):
            return steps_of(lambda: exchange.send(octets))

    units = (b"\0", b"a", b"n,", b"n=a,", b"=2C", b"\x01", b"auth=Bearer ", b"a=b\x01", b"\xcc\x81")
    for begin in (b"", b"n,,n=a,r=", b"n,a=", b"user=a\x01", b"n,,\x01"):
        for unit in units:
            few, many = (steps(begin + much(unit, n)) or 0 for n in (100, 1000))
            assert many <= 12 * few + 500, (begin, unit)


def test_a_name_is_prepared_only_where_that_is_little_work():
    """Normalization sorts marks one by one."""
    marks = ("\u0301" * 100 + "\u0323" * 100).encode()
    assert prepared(b"a" + marks) != b"a" + marks
    long = marks * (PREPARED_MAXIMUM // len(marks) + 1)
    assert prepared(long) == long
    assert steps_of(lambda: prepared(long)) < 50


def test_a_long_text_is_searched_once():
    """What is searched is counted, too."""
    assert steps_of(lambda: Counted(b"x" * 1000).find(b"y")) > 1000
