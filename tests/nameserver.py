"""A DNS server on loopback whose answers a test writes, in threads of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from dns.message import Message

#: What is sent for a query over "udp" or "tcp"; nothing for None.
Script = Callable[[Message, str], bytes | list[bytes] | None]


def response(
    query: Message, code: str = "NOERROR", *, aa: bool = False, ra: bool = True
) -> Message:
    made = dns.message.make_response(query)
    made.set_rcode(dns.rcode.from_text(code))
    made.flags &= ~(dns.flags.AA | dns.flags.RA | dns.flags.AD)
    made.flags |= (dns.flags.AA if aa else 0) | (dns.flags.RA if ra else 0)
    return made


def records(name: str, kind: str, *values: str, ttl: int = 300) -> dns.rrset.RRset:
    return dns.rrset.from_text(name + ".", ttl, "IN", kind, *values)


def fails(code: str) -> Script:
    """A response with this code and nothing else."""
    return lambda query, _: response(query, code).to_wire()


def silent(query: Message, transport: str) -> None:
    """No response."""


class NameServer:
    """
    Answers as a resolver does, from ``zone``: (name, type) to texts of records, or a script.

    A name without any type there does not exist.  ``asked`` are the queries so far.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.zone: dict[tuple[str, str], list[str] | Script] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.messages: list[Message] = []
        self.ports: list[int] = []
        self.secure = False
        self.ttl = 300
        self._udp, self._tcp = _sockets(address)
        self.server: tuple[str, int] = address, self._udp.getsockname()[1]
        self._threads = [Thread(target=self._serve_udp), Thread(target=self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        for one in (self._udp, self._tcp):
            one.shutdown(socket.SHUT_RDWR) if one is self._tcp else _wake(one)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            octets, peer = self._udp.recvfrom(4096)
            if not octets:
                return
            self.ports.append(peer[1])
            for answer in self._answers(octets, "udp"):
                with suppress(OSError):  # nobody is there any more
                    self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, suppress(OSError), connection.makefile("rb") as stream:
                octets = stream.read(int.from_bytes(stream.read(2), "big"))
                for answer in self._answers(octets, "tcp"):
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answers(self, octets: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(octets)
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        script = self.zone.get((name, kind), self._answer)
        answer = script(query, transport) if callable(script) else self._answer(query, transport)
        self.messages.append(query)
        self.asked.append((name, kind, transport))
        return [] if answer is None else answer if isinstance(answer, list) else [answer]

    def _answer(self, query: Message, transport: str) -> bytes:
        """The records and the aliases in front of them; too much for UDP is truncated."""
        made = response(query)
        name = query.question[0].name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        seen = set()
        while (name, kind) not in self.zone and (name, "CNAME") in self.zone and name not in seen:
            seen.add(name)
            [target] = self.zone[name, "CNAME"]
            made.answer.append(records(name, "CNAME", target, ttl=self.ttl))
            name = target.rstrip(".")
        if (name, kind) in self.zone:
            made.answer.append(records(name, kind, *self.zone[name, kind], ttl=self.ttl))
        else:
            soa = "ns.example. admin.example. 1 2 3 4 60"
            made.authority.append(records("example", "SOA", soa))
            if not any(other == name for other, _ in self.zone):
                made.set_rcode(dns.rcode.NXDOMAIN)
        made.flags |= dns.flags.AD if self.secure and query.flags & dns.flags.AD else 0
        wire = made.to_wire(max_size=65535)
        if transport == "udp" and len(wire) > query.payload:
            made.answer.clear()
            made.flags |= dns.flags.TC
            wire = made.to_wire()
        return wire


def _sockets(address: str) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket with the same port."""
    while True:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.bind((address, 0))
        tcp = socket.socket(family)
        try:
            tcp.bind(udp.getsockname())
            tcp.listen()
        except OSError:
            udp.close()
            tcp.close()
            continue
        return udp, tcp


def _wake(udp: socket.socket) -> None:
    with socket.socket(udp.family, socket.SOCK_DGRAM) as other:
        other.sendto(b"", udp.getsockname())
