"""
The tables of the accounts' database: making, checking and migrating the file.

The functions block.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from contextlib import closing, suppress
from errno import EDQUOT, EIO, ENOSPC
from urllib.parse import quote

from postoffice.model.errors import StartupError
from postoffice.util.atomic_file import sync_folder
from postoffice.util.file_modes import set_mode

#: The application id that marks the file as ours ("PoOf"), and the version of its tables.
APPLICATION = 0x506F4F66
SCHEMA = 7
#: The columns of a mail policy, of an account or of a domain.
POLICY = (
    "keep REAL",
    "keep_collected REAL",
    "delete_on_collect INTEGER",
    "devices TEXT",
    "login_delay REAL",
    "in_use TEXT",
    "wait REAL",
)
#: Devices with their app passwords, and where those may be used.
DEVICE = """
    CREATE TABLE device (
        account TEXT NOT NULL REFERENCES account (address) ON DELETE CASCADE,
        name TEXT NOT NULL,
        id TEXT NOT NULL,
        secret TEXT NOT NULL,
        scram TEXT,
        added REAL NOT NULL,
        expires REAL,
        protocol TEXT NOT NULL,
        networks TEXT NOT NULL,
        PRIMARY KEY (account, name)
    ) WITHOUT ROWID
    """
#: One of ``model.address.STATES``.
STATE = "state TEXT NOT NULL DEFAULT 'enabled'"
#: Who set the state, when and why; whether an account that forwards its mail keeps a copy.
ACCOUNT = (
    "keep_copy INTEGER NOT NULL DEFAULT 1",
    "state_by TEXT NOT NULL DEFAULT ''",
    "state_at REAL NOT NULL DEFAULT 0",
    "state_why TEXT NOT NULL DEFAULT ''",
)
#: See ``model.alias.Domain``; each name in ``uncaught`` is a line.
DOMAIN = (
    "same_as TEXT NOT NULL DEFAULT ''",
    "separators TEXT NOT NULL DEFAULT '+'",
    "uncaught TEXT NOT NULL DEFAULT ''",
)
#: Aliases, and the targets of aliases, of accounts that forward, and of catch-alls (``*@DOMAIN``).
ALIASES = (
    """
    CREATE TABLE alias (
        address TEXT PRIMARY KEY,
        domain TEXT NOT NULL REFERENCES domain (name),
        kind TEXT NOT NULL,
        words TEXT NOT NULL,
        send INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX alias_domain ON alias (domain)",
    """
    CREATE TABLE target (
        name TEXT NOT NULL,
        place INTEGER NOT NULL,
        local TEXT NOT NULL,
        domain TEXT NOT NULL,
        normal TEXT NOT NULL,
        PRIMARY KEY (name, place)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX target_normal ON target (normal)",
    "CREATE INDEX domain_same_as ON domain (same_as)",
)
_POLICY = ",\n        ".join(POLICY)
_ACCOUNT = ",\n        ".join(ACCOUNT)
_DOMAIN = ",\n        ".join(DOMAIN)
TABLES = (
    f"""
    CREATE TABLE domain (
        name TEXT PRIMARY KEY,
        quota_octets INTEGER,
        quota_messages INTEGER,
        quota_over TEXT,
        {_POLICY},
        {_DOMAIN}
    ) WITHOUT ROWID
    """,
    f"""
    CREATE TABLE account (
        address TEXT PRIMARY KEY,
        domain TEXT NOT NULL REFERENCES domain (name),
        maildrop TEXT NOT NULL UNIQUE,
        secret TEXT,
        scram TEXT,
        shared TEXT,
        quota_octets INTEGER,
        quota_messages INTEGER,
        quota_over TEXT,
        {_POLICY},
        {STATE},
        {_ACCOUNT}
    ) WITHOUT ROWID
    """,
    "CREATE INDEX account_domain ON account (domain)",
    DEVICE,
    *ALIASES,
)
#: The statements that turn each older version into the next one.
CHANGES = {
    1: ("ALTER TABLE account ADD COLUMN scram TEXT", "ALTER TABLE account ADD COLUMN shared TEXT"),
    2: tuple(
        f"ALTER TABLE {table} ADD COLUMN {column}"
        for table in ("domain", "account")
        for column in ("quota_octets INTEGER", "quota_messages INTEGER", "quota_over TEXT")
    ),
    3: tuple(
        f"ALTER TABLE {table} ADD COLUMN {column}"
        for table in ("domain", "account")
        for column in POLICY
    ),
    4: (DEVICE,),
    5: (f"ALTER TABLE account ADD COLUMN {STATE}",),
    6: (
        *(f"ALTER TABLE account ADD COLUMN {column}" for column in ACCOUNT),
        *(f"ALTER TABLE domain ADD COLUMN {column}" for column in DOMAIN),
        *ALIASES,
    ),
}


def connect(path: str, waits: float) -> sqlite3.Connection:
    """
    Open a connection, which waits so many seconds for other writers.

    Any thread may use it, one at a time.
    """
    # "rw": otherwise SQLite would create a missing file.
    uri = f"file://{quote(os.fsencode(os.path.abspath(path)))}?mode=rw"
    database = sqlite3.connect(
        uri, uri=True, timeout=waits, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("PRAGMA synchronous = FULL")  # durable when COMMIT returns
        database.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        database.close()
        raise
    return database


def make(path: str) -> None:
    """Make an empty database: under another name first, then linked to its path."""
    # In this order: another process that makes the database links the file before its log exists.
    if os.path.lexists(path + "-wal") and not os.path.lexists(path):
        raise StartupError(
            f"the accounts database {path} is gone, but {path}-wal is still there: put the "
            "database back, or a backup of it; or move that file away to begin anew"
        )
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, mode=0o700, exist_ok=True)
    draft = f"{path}.{secrets.token_hex(4)}.new"
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(fd, 0o600)  # whatever the umask
        finally:
            os.close(fd)
        with closing(connect(draft, 0)) as database:
            _use_write_ahead_log(path, database)
            database.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                database.execute(table)
            _set_version(database)
            database.execute("COMMIT")
        _sync(draft)
        with suppress(FileExistsError):  # another process was faster
            os.link(draft, path)
    finally:
        for name in (draft, draft + "-wal", draft + "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(name)
    sync_folder(folder)


def _sync(path: str) -> None:
    """Sync a file; never one that SQLite has open."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def check_mode(path: str) -> None:
    """
    Refuse what is not a regular file, and take other users' permissions away.

    The file is not opened here: closing it would drop SQLite's locks on it.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise StartupError(f"{path} is no file: the accounts database should be there")
    if status.st_size == 0:
        raise StartupError(
            f"the accounts database {path} is empty: put a backup in its place, "
            "or remove it to begin anew"
        )
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(13, "it cannot be read and written")
    for name in (path, path + "-wal", path + "-shm"):
        with suppress(FileNotFoundError, PermissionError):  # it belongs to another user
            set_mode(name, 0o600, where=0o077)


def check_and_migrate(path: str, database: sqlite3.Connection) -> str:
    """
    Refuse a database that is damaged, newer, or of another program; migrate an older one.

    Returns what was migrated, for the log, or "".
    """
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION and not _is_from_sql_text(database, application):
        raise StartupError(
            f"{path} is a database of another program: give the accounts another `path`"
        )
    if version > SCHEMA:
        raise StartupError(
            f"the accounts database {path} was made by a newer postoffice (its version is "
            f"{version}, this one knows {SCHEMA}): start that one{_downgrade_hint(path)}"
        )
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found.splitlines()[-1])
    _use_write_ahead_log(path, database)
    if application != APPLICATION or version < SCHEMA:
        return _migrate(path, database)
    return ""


def _migrate(path: str, database: sqlite3.Connection) -> str:
    """
    Migrate the tables to the current version, completely or not at all; return what was done.

    Another process may do so at the same time.  A copy of the old file is kept beside it, as
    ``accounts.db.version-5``, for a return to the older program.
    """
    database.execute("BEGIN IMMEDIATE")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if not version:  # restored from SQL text, which has no version
        version = _guessed_version(database)
    copy = copy_of(path, version) if version < SCHEMA else ""
    if copy:
        _keep_copy(path, copy)
        _apply_changes(path, database, version)
    _set_version(database)
    database.execute("COMMIT")
    if not copy:  # another process was faster
        return ""
    return (
        f"the accounts database {path} was migrated from version {version} to {SCHEMA}; "
        f"a copy of the old one is in {copy}"
    )


def _downgrade_hint(path: str) -> str:
    """Return how to use the copy from before the migration; "" if there is none."""
    copy = copy_of(path, SCHEMA)
    if not os.path.exists(copy):
        return ""
    return (
        f", or put {copy} in its place, without {path}-wal and {path}-shm: what has changed "
        "since then is lost"
    )


def copy_of(path: str, version: int) -> str:
    """Return the path of the copy that a migration from this version keeps."""
    return f"{path}.version-{version}"


def _keep_copy(path: str, copy: str) -> None:
    """Copy the database, completely or not at all; nobody else can write meanwhile."""
    draft = f"{copy}.{secrets.token_hex(4)}.new"
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(connect(path, 0)) as source, closing(connect(draft, 0)) as kept:
            source.backup(kept)
            kept.execute("PRAGMA journal_mode = DELETE")  # the copy is one file
        _sync(draft)
        os.replace(draft, copy)
    except BaseException:
        os.unlink(draft)
        raise
    _sync(os.path.dirname(path) or ".")


def _apply_changes(path: str, database: sqlite3.Connection, version: int) -> None:
    """Migrate the tables from an older version."""
    try:
        for number in range(version, SCHEMA):
            for change in CHANGES[number]:
                database.execute(change)
    except sqlite3.Error as error:
        if _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        raise StartupError(
            f"the accounts database {path} cannot be brought from version {version} to {SCHEMA}: "
            f"that failed: {error}; it is as it was: start the postoffice that made it, or put a "
            f"backup in its place, without {path}-wal and {path}-shm"
        ) from error


def _guessed_version(database: sqlite3.Connection) -> int:
    """Guess the version from the tables and the columns of the accounts."""
    columns = _columns(database, "account")
    if "keep_copy" in columns.split(","):
        return 7
    if "state" in columns.split(","):
        return 6
    if _columns(database, "device").startswith("account,"):
        return 5
    if "keep_collected" in columns:
        return 4
    if "quota_octets" in columns:
        return 3
    return 2 if "scram" in columns else 1


def _columns(database: sqlite3.Connection, table: str) -> str:
    columns = "SELECT group_concat(name) FROM pragma_table_info(?)"
    return str(database.execute(columns, (table,)).fetchone()[0])


def _is_from_sql_text(database: sqlite3.Connection, application: int) -> bool:
    """Whether it was restored from SQL text, which has our tables but not our application id."""
    return (
        application == 0
        and f"{_columns(database, 'domain')},".startswith("name,")
        and _columns(database, "account").startswith("address,domain,maildrop,secret")
    )


def _use_write_ahead_log(path: str, database: sqlite3.Connection) -> None:
    """Switch to a write-ahead log: reads go on during a write."""
    (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StartupError(
            f"the accounts database {path} cannot have a write-ahead log there: "
            "put it on a disk of this machine"
        )


def _set_version(database: sqlite3.Connection) -> None:
    """Set the application id and the version."""
    database.execute(f"PRAGMA application_id = {APPLICATION}")
    database.execute(f"PRAGMA user_version = {SCHEMA}")


def unusable(path: str, error: Exception) -> StartupError:
    """Return the error for the log: what is wrong, where, and how to repair it."""
    code = _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        mend = "another program holds it; end that program"
    elif getattr(error, "errno", 0) in (ENOSPC, EDQUOT, EIO):
        mend = "look at the disk"
    elif isinstance(error, OSError) or code in (
        sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY,
    ):  # fmt: skip
        mend = "it and its folder must belong to the user that the post office runs as"
    elif code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        mend = "look at the disk"
    else:
        # SQLite would apply a log that is left there to the backup, and damage it.
        mend = (
            f"it is damaged: put a backup in its place, without {path}-wal and {path}-shm, or "
            "what can still be read: `sqlite3 DAMAGED .recover | sqlite3 NEW` (or `.dump`)"
        )
    return StartupError(f"the accounts database {path} cannot be used: {error}; {mend}")


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
