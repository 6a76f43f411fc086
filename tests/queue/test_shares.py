"""How much of the queue the mail of one account may take."""

from __future__ import annotations

from dataclasses import replace

from postoffice.model.queued_message import QueuedRecipient
from postoffice.model.reply import SHARE_FULL
from postoffice.queue.shares import QueueShares
from tests.queue.scripted import message

ANN, JOE = "ann@here.example", "joe@here.example"
FAR = QueuedRecipient(address="x@far.example")
OF_JOE = QueuedRecipient(address="x@far.example", original=JOE, forwarder=JOE)


def forwarded():
    sender = "stranger@elsewhere.example"
    return replace(message(login="", sender=sender), recipients=(OF_JOE,))


def test_without_a_limit_nothing_is_refused():
    shares = QueueShares()
    shares.limit(0, 0, 25)
    shares.load([(ANN, 10**6, 10**12)])
    assert shares.refusal(ANN, [FAR]) is None


def test_a_share_is_never_nothing():
    shares = QueueShares()
    shares.limit(3, 0, 25)
    assert shares.refusal(ANN, [FAR]) is None
    shares.came("n1", message("a@x.example"))
    assert shares.refusal(ANN, [FAR]) == SHARE_FULL


def test_what_an_account_forwards_is_its_own():
    shares = QueueShares()
    shares.limit(4, 0, 50)
    for name in ("n1", "n2"):
        shares.came(name, forwarded())
    assert shares.refusal("", [OF_JOE]) == SHARE_FULL
    assert shares.refusal("", [FAR]) is None, "an alias is nobody's"
    assert shares.refusal(ANN, [FAR]) is None
    shares.left("n1", forwarded())
    assert shares.refusal("", [OF_JOE]) is None
    shares.left("n1", forwarded())
    shares.left("of before a start", forwarded())
    shares.came("n3", forwarded())
    assert shares.refusal("", [OF_JOE]) == SHARE_FULL, "nothing was taken off twice"


def test_letters_of_ours_are_nobodys():
    shares = QueueShares()
    shares.limit(1, 1, 100)
    shares.load([("", 100, 100)])
    shares.came("n1", message("a@x.example", login="", sender=""))
    assert shares.refusal("", [FAR]) is None
