"""What tests of processes have made there; a module of its own, for it is imported there, too."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from postoffice.model.errors import MaildropFull, StartupError


class Desk:
    """What is made apart; its papers lie in ``folder``."""

    def __init__(self, folder, memory):
        self.folder = folder
        self.memory = memory
        self.seen = []
        if not os.path.isdir(folder):
            raise StartupError(f"{folder} is missing")

    def see(self, *what):
        """Where it was seen, what was before, and by whom."""
        self.seen.append(what)
        return list(self.seen), os.getpid(), threading.get_ident()

    def turn_around(self):
        """Reverse the octets of the shared memory."""
        self.memory[:] = bytes(reversed(self.memory[:]))

    def close(self):
        Path(self.folder, "closed").touch()

    def refuse(self):
        raise MaildropFull("joe: over its quota")

    def unheard_of(self):
        return threading.Lock()

    def meet(self, mine, other):
        """Come, and wait for the other."""
        Path(self.folder, mine).touch()
        until = time.monotonic() + 60
        while not Path(self.folder, other).exists():
            assert time.monotonic() < until
            time.sleep(0.001)
        return mine

    def print(self):
        print("a word that is nobody's")
        return "printed"

    def no_more_threads(self):
        """None is to be had from now on."""

        def refuse(thread):
            Path(self.folder, "refused").touch()
            raise RuntimeError("can't start new thread")

        self.start, threading.Thread.start = threading.Thread.start, refuse

    def threads_again(self):
        """They are to be had once the first has been refused, which is waited for."""
        self.meet("mine", "refused")
        threading.Thread.start = self.start
        return self.meet("one", "two")


class Unreadable:
    """What nobody can read."""

    def __reduce__(self):
        return int, ("no number",)
