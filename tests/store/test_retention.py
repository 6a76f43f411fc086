"""Mail that goes by itself, in Maildirs: by which times, and where to."""

from __future__ import annotations

import os
import time

import pytest
from twisted.internet.task import Clock

from postoffice.model.address import Quota
from postoffice.model.errors import LoginTooSoon, MaildropLocked, NotAllRemoved, TemporaryFailure
from postoffice.model.mail_policy import A_DAY, KeepTimes
from postoffice.store import fetch_log, files, maildir, names, retention, vault
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.maildir_store import MaildirStore
from postoffice.store.quota.enforcement import QuotaEnforcement
from postoffice.store.quota.usage_file import Usage
from postoffice.testing import ImmediateExecutor, finish

JOE = "joe@example.net"
FOR_30_DAYS = KeepTimes(arrived=30 * A_DAY)


@pytest.fixture(params=["files", "journal"])
def store(request, root, machine):
    store = MaildirStore(
        str(root),
        ImmediateExecutor(),
        hostname="mail.example.net",
        clock=Clock(),
        durability=request.param,
        undelete=7 * A_DAY,
        segment=1 << 20,
    )
    finish(store.start())
    yield store
    finish(store.stop())


@pytest.fixture
def joe(root, store):
    folder = root / "example.net" / "joe"
    files.make(str(folder))
    return folder


def put(folder, name: str, days: float, *, box: str = "new", named: float | None = None) -> str:
    """A message that is so many days old, by its file and by its name; its UIDL."""
    when = time.time() - days * A_DAY
    stamp = when if named is None else time.time() - named * A_DAY
    name = f"{stamp:.0f}.{name}"
    path = folder / box / name
    path.write_bytes(b"x\r\n")
    os.utime(path, (when, when))
    return names.uidl_of_file(name)


def there(folder) -> set[str]:
    return set(maildir.subpaths(str(folder)))


def expire(store, keep, *, dry=False) -> int:
    return finish(store.expire(JOE, keep, dry))[0]


def remember(folder, days: float, *uidls: str, device: str = "") -> None:
    """They were collected so many days ago."""
    entries = [maildir.Entry(uidl, 3, "") for uidl in uidls]
    fetch_log.add(str(folder), entries, device, time.time() - days * A_DAY, list)


def test_what_is_older_than_it_is_kept_goes_and_nothing_earlier(store, joe):
    old, young = put(joe, "old", 30.01), put(joe, "young:2,S", 29.99, box="cur")
    assert expire(store, FOR_30_DAYS, dry=True) == 1
    assert there(joe) == {old, young}
    assert expire(store, FOR_30_DAYS) == 1
    assert there(joe) == {young}


@pytest.mark.parametrize(("days", "named"), [(0, 400), (400, 0)])
def test_of_two_times_the_later_counts(store, joe, days, named):
    """A copy that keeps no dates, a name from elsewhere: nothing goes too early."""
    put(joe, "odd", days, named=named)
    assert expire(store, FOR_30_DAYS) == 0


def test_names_and_clocks_that_make_no_sense_keep_their_mail(store, joe):
    put(joe, "tomorrow", -1)
    (joe / "new" / "no-time-at-all").write_bytes(b"x\r\n")
    (joe / "new" / f"{'9' * 18}.x").write_bytes(b"x\r\n")
    assert expire(store, FOR_30_DAYS) == 0
    remember(joe, -1, *there(joe))
    assert expire(store, KeepTimes(collected=0)) == 0


def test_flags_and_moves_of_other_programs_change_nothing(store, joe):
    uidl = put(joe, "one", 5)
    remember(joe, 8, uidl)
    (name,) = os.listdir(joe / "new")
    os.rename(joe / "new" / name, joe / "cur" / f"{name}:2,FS")
    assert expire(store, KeepTimes(collected=7 * A_DAY)) == 1


def test_what_expires_lies_in_the_vault_and_comes_back_to_stay(store, joe):
    uidl = put(joe, "one", 100)
    remember(joe, 50, uidl)
    keep = KeepTimes(arrived=30 * A_DAY, collected=7 * A_DAY)
    assert expire(store, keep) == 1
    (kept,) = finish(store.vault_sessions(JOE))
    assert (kept.session, kept.messages) == ("expire", 1)
    assert finish(store.undelete(JOE, "expire", 0.0)) == 1
    assert there(joe) == {uidl}
    assert expire(store, keep) == 0, "it would go the next night"
    (holding,) = finish(store.holdings())
    assert time.time() - holding.oldest > 99 * A_DAY, "its date is as it was"


def test_where_nothing_is_kept_for_a_while_it_is_gone(store, joe, root):
    store._undelete = 0
    put(joe, "one", 100)
    assert expire(store, FOR_30_DAYS) == 1
    assert not os.path.exists(vault.path_of(str(joe)))


def test_a_session_keeps_its_mail_and_nobody_waits_for_a_look(store, joe):
    put(joe, "one", 100)
    maildrop = store.maildrop(JOE)
    finish(maildrop.open())
    assert expire(store, FOR_30_DAYS, dry=True) == 1
    with pytest.raises(MaildropLocked):
        expire(store, FOR_30_DAYS)
    assert len(there(joe)) == 1
    maildrop.release()


def test_what_was_collected_between_the_look_and_the_lock_is_looked_at_again(
    store, joe, monkeypatch
):
    uidl = put(joe, "one", 100)
    lock = retention.expunge.lock

    def lock_later(*args):
        os.utime(joe / "new" / os.listdir(joe / "new")[0])  # somebody puts it there anew
        return lock(*args)

    monkeypatch.setattr(retention.expunge, "lock", lock_later)
    assert expire(store, FOR_30_DAYS) == 0
    assert there(joe) == {uidl}


def test_a_disk_that_fails_is_for_later(store, joe, monkeypatch):
    put(joe, "one", 100)

    def broken(*_, **__):
        raise OSError(5, "broken")

    monkeypatch.setattr(maildir, "_messages", broken)
    with pytest.raises(TemporaryFailure):
        expire(store, FOR_30_DAYS)


def test_room_is_made_first_where_mail_was_collected(joe):
    """Flags are what other programs leave; our own clients are remembered."""
    oldest = put(joe, "1", 9)
    put(joe, "2:2,S", 8, box="cur")
    had, last = put(joe, "3", 7), put(joe, "4", 6)
    remember(joe, 1, had)
    warden = QuotaEnforcement(None, MeasuredSizes())
    warden.make_room(str(joe), Quota(0, 4, "make-room"), Usage(12, 4), Usage(3, 2))
    assert there(joe) == {oldest, last}
    warden.make_room(str(joe), Quota(0, 2, "make-room"), Usage(6, 2), Usage(3, 1))
    assert there(joe) == {last}


# -- removal, and what is told of it ------------------------------------------------------


@pytest.fixture
def by_files(root, machine):
    store = MaildirStore(
        str(root),
        ImmediateExecutor(),
        hostname="mail.example.net",
        clock=Clock(),
        durability="files",
    )
    finish(store.start())
    yield store
    finish(store.stop())


def held(store, folder):
    for number in range(3):
        put(folder, str(number), 1)
    maildrop = store.maildrop(JOE)
    return maildrop, finish(maildrop.open()).entries


@pytest.fixture
def hers(root, by_files):
    folder = root / "example.net" / "joe"
    files.make(str(folder))
    return folder


def test_a_removal_that_fails_in_the_middle_says_how_many_are_gone(by_files, hers, monkeypatch):
    maildrop, entries = held(by_files, hers)
    unlink = os.unlink

    def some(path, **named):
        if path.endswith(entries[1].name):
            raise OSError(5, "broken")
        unlink(path, **named)

    monkeypatch.setattr(os, "unlink", some)
    with pytest.raises(NotAllRemoved) as raised:
        finish(maildrop.remove(entries))
    assert raised.value.removed == 2
    assert there(hers) == {entries[1].uidl}
    maildrop.release()


def test_a_removal_that_does_not_reach_the_disk_is_none_that_is_done(by_files, hers, monkeypatch):
    maildrop, entries = held(by_files, hers)

    def broken(_):
        raise OSError(5, "broken")

    monkeypatch.setattr(maildir, "sync_folder", broken)
    with pytest.raises(NotAllRemoved) as raised:
        finish(maildrop.remove(entries[:2]))
    assert raised.value.removed == 2
    maildrop.release()


# -- the last login -------------------------------------------------------------------------


def test_what_is_deleted_does_not_put_the_last_login_off(store, joe):
    put(joe, "one", 1)
    maildrop = store.maildrop(JOE)
    listing = finish(maildrop.open())
    an_hour_ago = time.time() - 3600
    os.utime(joe / files.LOCK, (an_hour_ago, an_hour_ago))
    finish(maildrop.remove(listing.entries))
    maildrop.release()
    assert files.last_login(str(joe)) == pytest.approx(an_hour_ago, abs=1)
    finish(maildrop.open(1800))
    maildrop.release()
    with pytest.raises(LoginTooSoon):
        finish(maildrop.open(1800))


def test_a_lock_file_made_for_another_purpose_is_no_login(store, joe):
    put(joe, "one", 100)
    assert expire(store, FOR_30_DAYS) == 1
    assert (joe / files.LOCK).exists()
    assert files.last_login(str(joe)) is None
    assert finish(store.holdings())[0].login is None


def test_a_clock_that_was_put_back_keeps_nobody_out(store, joe):
    maildrop = store.maildrop(JOE)
    finish(maildrop.open())
    maildrop.release()
    tomorrow = time.time() + A_DAY
    os.utime(joe / files.LOCK, (tomorrow, tomorrow))
    finish(maildrop.open(60))
    maildrop.release()


def test_what_went_by_itself_is_in_the_log(store, joe, logged):
    uidls = [put(joe, "a", 40), put(joe, "b", 50)]
    put(joe, "c", 3)
    expire(store, FOR_30_DAYS, dry=True)
    assert not any(line.startswith("mail-removed") for line in logged)
    expire(store, FOR_30_DAYS)
    [line] = [line for line in logged if line.startswith("mail-removed ")]
    assert line.startswith(f"mail-removed maildrop={JOE} messages=2 octets=")
    assert line.endswith(" why=expired")
    assert set(line.partition(" uidls=")[2].split(" ")[0].split(",")) == set(uidls)
