"""Another process at the accounts: does what it is told, a line at a time, and says so."""

from __future__ import annotations

import os
import resource
import sqlite3
import sys

from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.testing import ImmediateExecutor, finish

path = sys.argv[1]
directory = SQLiteDirectory(path, ImmediateExecutor())
for line in sys.stdin:
    what, *words = line.split()
    try:
        if what == "limit":  # of the size of any file, in octets: as if the disk were full
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(words[0]), resource.RLIM_INFINITY))
            said = "done"
        elif what == "fill":
            for number in range(int(words[1])):
                finish(directory.add(f"{words[0]}{number}@example.net", "x" * 100))
            said = "done"
        elif what == "become":
            os.setuid(int(words[0]))
            said = "done"
        elif what == "begin":  # a change that is never finished
            raw = sqlite3.connect(path, isolation_level=None)
            raw.execute("PRAGMA cache_size = 1")
            raw.execute("BEGIN IMMEDIATE")
            for number in range(1000):
                raw.execute("INSERT INTO domain (name) VALUES (?)", (f"{number}.example",))
            said = "done"
        elif what == "die":
            os._exit(1)
        else:
            said = str(finish(getattr(directory, what)(*words)))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(said, flush=True)
