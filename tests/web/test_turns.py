"""The requests of one account take turns."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from postoffice.web.context import AT_ONCE
from postoffice.web.turns import Turns
from tests.web.whole_site import ANNA, BERT


class Work:
    """A request that is worked on until ``done`` fires."""

    def __init__(self, turns: Turns, account: str = ANNA) -> None:
        self.begun = False
        self.done: Deferred[str] = Deferred()
        self.answer = Deferred.fromCoroutine(turns.take(account, self.work))
        self.answer.addErrback(lambda failure: failure.trap(CancelledError) and "cancelled")

    async def work(self) -> str:
        self.begun = True
        return await self.done


def test_other_accounts_do_not_wait():
    turns = Turns(AT_ONCE)
    mine = [Work(turns) for _ in range(AT_ONCE + 2)]
    assert [one.begun for one in mine] == [True] * AT_ONCE + [False] * 2
    assert Work(turns, BERT).begun
    mine[0].done.callback("done")
    assert mine[0].answer.result == "done"
    assert [one.begun for one in mine[AT_ONCE:]] == [True, False]


def test_work_of_a_cancelled_request_keeps_its_turn_until_it_is_done():
    turns = Turns(AT_ONCE)
    gone = [Work(turns) for _ in range(AT_ONCE)]
    waiting, last = Work(turns), Work(turns)
    for one in (*gone, waiting):
        one.answer.cancel()
        assert one.answer.result == "cancelled"
    assert not last.begun
    gone[0].done.callback("")
    assert last.begun
    assert not waiting.begun
    gone[1].done.callback("")
    last.done.callback("")
    assert not turns


@pytest.mark.parametrize("path", ["/", "/mail"])
def test_every_request_of_a_session_takes_a_turn(site, path):
    browser, took = site.logged_in(), []
    take = site.state.turns.take

    async def noted(account, work):
        took.append(account)
        return await take(account, work)

    site.state.turns.take = noted
    assert browser.get(path).status == 200
    assert took == [ANNA]
    assert not site.state.turns
