#!/usr/bin/env python3
"""
Send messages over client connections into Postfix's smtp-sink, from one process, without a queue.

    python bench/sendload.py [--connections 20] [--messages 20000] [--size 4096] [--profile]

Prints messages a second, and the CPU of this process for one message.  The best of all rounds
counts, as other work on the machine makes everything dearer.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import time

import sink
from offices import free_port

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from postoffice.model.hop import NONE, Hop, Transaction
from postoffice.model.queued_message import QueuedRecipient
from postoffice.server.client_connection import ClientConnection, ConnectOptions, connect
from postoffice.util.process_tuning import poll_without_context, tune

HEADER = b"From: Ann <ann@example.net>\r\nTo: joe@example.org\r\nSubject: what it costs\r\n\r\n"
LINE = b"x" * 76 + b"\r\n"


class Text:
    """A text in memory (IText)."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    async def read(self) -> bytes:
        octets, self._octets = self._octets, b""
        return octets

    def close(self) -> None:
        pass


class Load:
    """A round: so many messages over these connections, each as fast as the server takes them."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.left = 0

    async def work(self, connection: ClientConnection) -> None:
        while self.left > 0:
            self.left -= 1
            number = self.left
            transaction = Transaction(
                id=f"id.{number}",
                sender=f"ann{number % 97}@example.net",
                recipients=(QueuedRecipient(address=f"joe{number % 193}@example.org"),),
                size=len(self.text),
            )
            result = await connection.send(transaction, Text(self.text))
            assert result.replies[0].sent, result

    async def round(self, connections: list[ClientConnection], messages: int) -> None:
        self.left = messages
        await gatherResults([Deferred.fromCoroutine(self.work(one)) for one in connections])


async def measure(options: argparse.Namespace, port: int) -> None:
    hop = Hop(host="mx.example.org", address="127.0.0.1", port=port, level=NONE)
    how = ConnectOptions(reactor=reactor, hostname="mail.example.net")
    connections = [await connect(hop, how) for _ in range(options.connections)]
    load = Load(HEADER + LINE * ((options.size - len(HEADER)) // len(LINE)))
    await load.round(connections, options.connections * 20)
    if options.profile:
        profile = cProfile.Profile()
        profile.enable()
        await load.round(connections, options.messages)
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    for _ in range(options.rounds):
        began, before = time.monotonic(), os.times()
        await load.round(connections, options.messages)
        took, after = time.monotonic() - began, os.times()
        user, system = (1e6 * (after[n] - before[n]) / options.messages for n in (0, 1))
        print(
            f"{options.messages / took:7.0f} messages/s, CPU of this process for one: "
            f"{user:6.1f} us, and {system:6.1f} us in the kernel"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    tune()
    poll_without_context(reactor)
    port = free_port()
    running = sink.start(port)

    def begin() -> None:
        done = Deferred.fromCoroutine(measure(options, port))
        done.addErrback(lambda failure: failure.printTraceback())
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    try:
        reactor.run()
    finally:
        running.kill()


if __name__ == "__main__":
    main()
