"""``queue.db`` is missing or damaged when the post office starts."""

from __future__ import annotations

from random import Random

import pytest

from postoffice.model.errors import StartupError
from tests.queue.scripted import LATER, Office, message

#: So many messages that the file has many pages.
MESSAGES = 100
PAGE = 4096


def noise(path, page: int) -> None:
    octets = bytearray(path.read_bytes())
    octets[page * PAGE : (page + 1) * PAGE] = Random(page).randbytes(PAGE)
    path.write_bytes(octets)


def halve(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fill_with_zeros(path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture
def stopped(tmp_path):
    """An office that was stopped while messages waited."""
    office = Office(str(tmp_path))
    office.start()
    for number in range(MESSAGES):
        office.relay.answers[f"u{number}@x.example"] = LATER
        office.queue.commit(f"n{number}", message(f"u{number}@x.example", id=f"m{number}"))
    office.stop()
    assert len(office.queue.there) == MESSAGES
    office.relay.answers.clear()
    return office


@pytest.mark.parametrize("leave", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_without_a_schedule_all_is_sent_at_once(stopped, tmp_path, leave):
    leave(tmp_path / "queue.db")
    stopped.manager = stopped.manager_again()
    stopped.start()
    stopped.pass_time(10)
    assert not stopped.queue.there
    assert not stopped.queue.twice
    stopped.stop()


@pytest.mark.parametrize("damage", [halve, fill_with_zeros])
def test_a_damaged_schedule_is_told_with_what_to_do(stopped, tmp_path, damage):
    damage(tmp_path / "queue.db")
    stopped.manager = stopped.manager_again()
    with pytest.raises(StartupError, match=r"queue\.db.* it can be removed: all that waits"):
        stopped.start()


def test_each_damaged_page_is_told_or_does_no_harm(stopped, tmp_path):
    """A schedule that is damaged and used all the same would keep mail in the queue for good."""
    path = tmp_path / "queue.db"
    whole = path.read_bytes()
    told = []
    for page in range(len(whole) // PAGE):
        for beside in tmp_path.glob("queue.db-*"):
            beside.unlink()
        path.write_bytes(whole)
        noise(path, page)
        stopped.manager = stopped.manager_again()
        try:
            stopped.start()
        except StartupError as error:
            told.append(str(error))
        else:  # it was free
            stopped.pass_time(1)
            stopped.stop()
    assert len(told) > 10
    assert all("it can be removed" in one for one in told)
    path.unlink()
    stopped.manager = stopped.manager_again()
    stopped.start()
    stopped.pass_time(10)
    assert not stopped.queue.there
    stopped.stop()
