"""Clients that post and collect until the daemon is gone, or they are told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

from faults.daemon import Collector, Daemon, Poster, Refused
from faults.departures import Departures, recipients
from faults.ledger import Ledger, text_of

SMALL = (200, 3000)
#: They go to disk as they arrive.
LARGE = (300_000, 900_000)


#: So many submit at the same time, all from this account.
SUBMITTERS, SENDER = 3, "sam"


class Load:
    """
    Some clients, each on a thread and a connection of its own.

    ``problems`` has what one of them got that nobody should; where the disk ``fails``, a client of
    POP3 may hear of it.  With ``departures``, ``SUBMITTERS`` more submit mail for other servers.
    """

    def __init__(
        self,
        ledger: Ledger,
        names: Sequence[str],
        random: Random,
        mark: str,
        *,
        fails: bool = False,
        departures: Departures | None = None,
    ) -> None:
        self.problems: list[str] = []
        self._may_hear = ("[IN-USE]", "[SYS/TEMP]") if fails else ("[IN-USE]",)
        self._ledger = ledger
        self._departures = departures
        self._names = names
        self._seeds = random
        self._mark = mark  # stands in the tokens: they are used once
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, daemons: Sequence[Daemon]) -> None:
        """
        Ten that post, two that collect and delete.

        One and several recipients, small texts and large ones, SMTP and LMTP; and so many at the
        same time that a process of its own places.
        """
        kinds: list[tuple[Callable[[Daemon], Poster], int, tuple[int, int]]] = [
            (Daemon.smtp, 1, SMALL),
            (Daemon.smtp, 1, SMALL),
            (Daemon.smtp, 3, SMALL),
            (Daemon.smtp, 2, LARGE),
            (Daemon.lmtp, 4, SMALL),
            (Daemon.lmtp, 2, LARGE),
            *[(Daemon.smtp, 1, SMALL)] * 4,
        ]
        for number, kind in enumerate(kinds):
            self._start(self._post, daemons[number % len(daemons)], number, *kind)
        for number in range(SUBMITTERS if self._departures else 0):
            self._start(self._submit, daemons[number % len(daemons)], self._departures, number)
        for number in range(2):
            self._start(self._collect, daemons[number % len(daemons)])

    def _start(self, client: Callable[..., None], *args: object) -> None:
        def run() -> None:
            with suppress(OSError):  # the daemon is gone
                try:
                    client(*args, Random(seed))
                except Refused as why:
                    self.problems.append(f"a client heard {why}")

        seed = self._seeds.random()
        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def end(self) -> None:
        """Each ends with what it is at."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _post(
        self,
        daemon: Daemon,
        number: int,
        connect: Callable[[Daemon], Poster],
        recipients: int,
        sizes: tuple[int, int],
        random: Random,
    ) -> None:
        poster, count = connect(daemon), 0
        while not self._stopping.is_set():
            count += 1
            token = f"{self._mark}.{number}.{count}.{random.randint(*sizes)}"
            names = random.sample(self._names, recipients)
            for reply in poster.post(self._ledger, token, text_of(token), names):
                if self._is_wrong(reply):
                    return
        poster.close()

    def _is_wrong(self, reply: bytes) -> bool:
        if wrong := not reply.startswith((b"250", b"4")):
            self.problems.append(f"a poster heard {reply!r}")
        return wrong

    def _submit(self, daemon: Daemon, departures: Departures, number: int, random: Random) -> None:
        """Submit mail for several people elsewhere, and some of it for people here too."""
        submitter, count, sent = daemon.submission(SENDER), 0, random.randrange(16)
        while not self._stopping.is_set():
            count += 1
            sizes = LARGE if random.random() < 0.05 else SMALL
            token = f"{self._mark}.s{number}.{count}.{random.randint(*sizes)}"
            here = random.sample(self._names, random.choice((0, 1, 1, 2)))
            elsewhere = recipients(token, sent, random.randint(1, 5))
            sent += len(elsewhere)
            for reply in submitter.submit(departures, token, here, elsewhere):
                if self._is_wrong(reply):
                    return
        submitter.close()

    def _collect(self, daemon: Daemon, random: Random) -> None:
        while not self._stopping.is_set():
            name = random.choice(self._names)
            client = daemon.pop3()
            try:
                client.login(name)
                self._remove_some(client, name, random)
            except Refused as why:
                if not any(one in str(why) for one in self._may_hear):
                    self.problems.append(f"a collector heard {why}")
                client.close()

    def _remove_some(self, client: Collector, name: str, random: Random) -> None:
        uidls = client.uidls()
        number_of = {uidl: number for number, uidl in enumerate(uidls, 1)}
        chosen = random.sample(uidls, random.randint(0, len(uidls)))[:40]
        held = client.retrieve(uidls, sorted(number_of[uidl] for uidl in chosen))
        try:
            tokens = [self._ledger.seen(name, one) for one in held]
        except AssertionError as wrong:
            self.problems.append(str(wrong))
            return
        client.delete(number_of[one.uidl] for one in held)
        if random.random() < 0.2:  # RFC 1939 §6: without QUIT nothing goes
            client.close()
            return
        self._ledger.removing(name, tokens)
        client.quit()
        self._ledger.removed(name, tokens)
