"""Logins by SCRAM and by shared secrets; salts; and keys that are derived behind the answers."""

from __future__ import annotations

import hmac
from hashlib import md5
from itertools import groupby
from typing import ClassVar

import pytest
from twisted.cred.credentials import CramMD5Credentials, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from postoffice.accounts import checker as checker_module
from postoffice.accounts.checker import Checker, steady_salt
from postoffice.accounts.credentials import IBearerLogin, PlainLogin, credentials_of
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwords import hash_password
from postoffice.model.address import Account
from postoffice.model.envelope import Client
from postoffice.model.errors import TemporaryFailure
from postoffice.protocol.sasl import APOPClaim, BearerClaim, Challenge, exchange
from postoffice.protocol.scram import Keys, Salt, derive
from postoffice.testing import ImmediateExecutor, ManualExecutor, ScramClient, finish

RIGHT, OTHER, SHARED = b"secret word", b"other word", "tanstaaftanstaaf"
HASHES = {word: hash_password(word) for word in (RIGHT, OTHER)}
KEYS = {word: derive(word, b"salt of " + word, 5000) for word in (RIGHT, OTHER)}
JOE, ANN = "joe@example.net", "ann@example.net"


def directory_of(*accounts):
    directory = MemoryDirectory()
    for account in accounts:
        finish(directory.add_domain(account.address.rpartition("@")[2]))
        finish(directory.add(account.address, account.secret, account.scram))
        finish(directory.set_shared(account.address, account.shared))
    return directory


def account(name, word=None, keys=None, shared=None):
    return Account(name, name, HASHES.get(word), None if keys is None else str(keys), shared)


@pytest.fixture
def directory():
    return directory_of(
        account(JOE, RIGHT, KEYS[RIGHT], SHARED),
        account(ANN, RIGHT),
        account("jörg@example.net", OTHER, KEYS[OTHER], "schön"),
        account("broken@example.net", RIGHT, "no keys"),
        account("empty@example.net", None, None, ""),
        account("postmaster@example.net"),
    )


@pytest.fixture
def executor():
    return ManualExecutor()


def checker_of(*directories, executor=None, others=()):
    executor = ImmediateExecutor() if executor is None else executor
    return Checker(directories, executor, clock=Clock().seconds, others=others)


@pytest.fixture
def checker(directory):
    return checker_of(directory)


# -- SCRAM ------------------------------------------------------------------------


async def by_scram(checker, user, password, meanwhile=lambda: None):
    """A login as a client sees it: who it is, once the server has shown its signature."""
    running = exchange("SCRAM-SHA-256", hostname="mail.example.net", bindings={}, plus=False)
    client = ScramClient(user, password, b"nonce")
    next(running)
    challenge = running.send(await checker.salt(running.send(client.first).user))
    claim = running.send(client.final(challenge.octets))
    meanwhile()
    found = await checker.requestAvatarId(credentials_of(claim, Client(), "submission"))
    assert running.send(None) == Challenge(client.verdict)
    return found


@pytest.mark.parametrize(
    ("user", "password", "name"),
    [
        (b"joe@example.net", RIGHT, JOE),
        (b"JOE@Example.NET", RIGHT, JOE),
        ("jörg@example.net".encode(), OTHER, "jörg@example.net"),
        ("JO\u0308RG@example.net".encode(), OTHER, "jörg@example.net"),
    ],
)
def test_who_has_the_password_proves_it(checker, user, password, name):
    assert finish(by_scram(checker, user, password)).address == name


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (b"joe@example.net", OTHER),
        (b"joe@example.net", b""),
        (b"ann@example.net", RIGHT),  # has no keys yet
        (b"broken@example.net", RIGHT),
        (b"empty@example.net", b"x"),
        (b"postmaster@example.net", RIGHT),
        (b"eve@example.net", RIGHT),
        (b"joe", RIGHT),
        (b"\xff", RIGHT),
    ],
)
def test_everybody_else_is_refused_without_a_word(checker, user, password):
    with pytest.raises(UnauthorizedLogin) as raised:
        finish(by_scram(checker, user, password))
    assert (raised.value.args, raised.value.__cause__) == ((), None)


def test_a_proof_costs_no_worker(directory, executor):
    checker = checker_of(directory, executor=executor)
    assert finish(by_scram(checker, b"joe@example.net", RIGHT)).address == JOE
    with pytest.raises(UnauthorizedLogin):
        finish(by_scram(checker, b"eve@example.net", RIGHT))
    assert executor.waiting == []


def test_a_password_that_changes_between_salt_and_proof_counts_at_once(directory, checker):
    def change():
        finish(directory.set_secret(JOE, HASHES[OTHER], str(KEYS[OTHER])))

    with pytest.raises(UnauthorizedLogin):
        finish(by_scram(checker, b"joe@example.net", RIGHT, change))
    assert finish(by_scram(checker, b"joe@example.net", OTHER))


# -- shared secrets -----------------------------------------------------------------


def by_cram(checker, user, secret):
    running = exchange("CRAM-MD5", hostname="mail.example.net", bindings={}, plus=False)
    challenge = next(running).octets
    claim = running.send(user + b" " + hmac.new(secret, challenge, "md5").hexdigest().encode())
    return finish(checker.requestAvatarId(credentials_of(claim, Client(), "submission")))


@pytest.mark.parametrize(
    ("user", "secret", "name"),
    [
        (b"joe@example.net", SHARED.encode(), JOE),
        (b"JOE@example.net", SHARED.encode(), JOE),
        ("jörg@example.net".encode(), "schön".encode(), "jörg@example.net"),
    ],
)
def test_who_knows_the_shared_secret_comes_in(checker, user, secret, name):
    assert by_cram(checker, user, secret).address == name


@pytest.mark.parametrize(
    ("user", "secret"),
    [
        (b"joe@example.net", RIGHT),  # the password is another
        (b"joe@example.net", b""),
        (b"ann@example.net", b""),
        (b"ann@example.net", SHARED.encode()),
        (b"empty@example.net", b""),
        (b"eve@example.net", b""),
        (b"eve@example.net", SHARED.encode()),
        (b"joe", SHARED.encode()),
        (b"\xff", SHARED.encode()),
    ],
)
def test_no_other_digest_fits(checker, user, secret):
    with pytest.raises(UnauthorizedLogin) as raised:
        by_cram(checker, user, secret)
    assert (raised.value.args, raised.value.__cause__) == ((), None)


def test_a_shared_secret_may_be_any_octets(directory, checker):
    finish(directory.set_shared(JOE, b"\xff\xfe".decode("utf-8", "surrogateescape")))
    assert by_cram(checker, b"joe@example.net", b"\xff\xfe").address == JOE


def test_twisteds_own_cram_md5_does(checker):
    credentials = CramMD5Credentials("mail.example.net")
    challenge = credentials.getChallenge()
    digest = hmac.new(SHARED.encode(), challenge, "md5").hexdigest().encode()
    credentials.setResponse(b"joe@example.net " + digest)
    assert finish(checker.requestAvatarId(credentials)).address == JOE


def test_a_shared_secret_is_no_password_and_makes_no_scram_proof(checker):
    with pytest.raises(UnauthorizedLogin):
        by_password(checker, JOE.encode(), SHARED.encode())
    with pytest.raises(UnauthorizedLogin):
        finish(by_scram(checker, JOE.encode(), SHARED.encode()))


# -- names ------------------------------------------------------------------------


def by_password(checker, user, password):
    return finish(checker.requestAvatarId(PlainLogin(user, password, Client(), "pop3")))


@pytest.mark.parametrize("user", ["joe", "", "@", "joe@", "jörg", "\ud800@example.net", "joe\0"])
def test_a_text_that_is_no_address_is_refused_as_any_other(checker, user):
    with pytest.raises(UnauthorizedLogin):
        finish(checker.requestAvatarId(UsernamePassword(user, RIGHT)))


def test_a_text_that_is_an_address_will_do(checker):
    found = finish(checker.requestAvatarId(UsernamePassword("JOE@example.net", RIGHT)))
    assert found.address == JOE


def test_who_has_lost_everything_comes_in_by_nothing(directory, checker):
    assert by_password(checker, JOE.encode(), RIGHT)
    finish(directory.set_secret(JOE, None))
    finish(directory.set_shared(JOE, None))
    with pytest.raises(UnauthorizedLogin):
        by_password(checker, JOE.encode(), RIGHT)
    with pytest.raises(UnauthorizedLogin):
        finish(by_scram(checker, JOE.encode(), RIGHT))
    with pytest.raises(UnauthorizedLogin):
        by_cram(checker, JOE.encode(), SHARED.encode())


# -- tokens -----------------------------------------------------------------------


class Tokens:
    """A checker of others that knows one token of each of these."""

    credentialInterfaces = (IBearerLogin,)
    owners: ClassVar = {b"joes": JOE, b"anns": ANN, b"strangers": "eve@example.com"}

    async def requestAvatarId(self, credentials):
        if credentials.token not in self.owners:
            raise UnauthorizedLogin
        return self.owners[credentials.token].encode()


def show_token(directory, user, token, *others):
    claim = BearerClaim(user, token)
    checker = checker_of(directory, others=others)
    return finish(checker.requestAvatarId(credentials_of(claim, Client(), "pop3")))


@pytest.mark.parametrize("user", [b"", b"joe@example.net", b"JOE@Example.NET"])
def test_a_token_says_whose_it_is(directory, user):
    assert show_token(directory, user, b"joes", Tokens()).address == JOE


@pytest.mark.parametrize(
    ("user", "token"),
    [
        (b"ann@example.net", b"joes"),
        (b"eve@example.net", b"joes"),
        (b"joe", b"joes"),
        (b"\xff", b"joes"),
        (b"joe@example.net", b"x"),
        (b"", b"x"),
        (b"", b"strangers"),
        (b"eve@example.com", b"strangers"),
    ],
)
def test_a_token_is_good_for_its_owner_only(directory, user, token):
    with pytest.raises(UnauthorizedLogin):
        show_token(directory, user, token, Tokens())


def test_nobody_here_knows_a_token_by_himself(directory):
    with pytest.raises(UnauthorizedLogin):
        show_token(directory, b"joe@example.net", RIGHT)


def test_no_token_is_in_what_is_shown():
    assert "joes" not in repr(credentials_of(BearerClaim(b"joe", b"joes"), Client(), "pop3"))


# -- APOP -------------------------------------------------------------------------


def by_apop(checker, user, shared):
    digest = md5(b"<stamp>" + shared).hexdigest().encode()
    claim = APOPClaim(user, b"<stamp>", digest)
    return finish(checker.requestAvatarId(credentials_of(claim, Client(), "pop3")))


def test_apop_is_by_the_shared_secret(checker):
    assert by_apop(checker, b"JOE@example.net", SHARED.encode()).address == JOE


@pytest.mark.parametrize(
    ("user", "shared"),
    [
        (b"joe@example.net", RIGHT),
        (b"ann@example.net", b""),  # has no shared secret
        (b"empty@example.net", b""),
        (b"eve@example.net", SHARED.encode()),
        (b"joe", SHARED.encode()),
    ],
)
def test_everybody_else_is_refused_by_apop(checker, user, shared):
    with pytest.raises(UnauthorizedLogin):
        by_apop(checker, user, shared)


# -- salts ------------------------------------------------------------------------


def salt(checker, user):
    return finish(checker.salt(user))


def test_who_has_keys_is_told_their_salt(checker):
    assert salt(checker, b"JOE@example.net") == Salt(b"salt of secret word", 5000)


STRANGERS = [
    b"eve@example.net",
    b"eve@example.org",
    b"ann@example.net",  # who has a password, but no keys
    b"postmaster@example.net",
    b"broken@example.net",
    b"eve",
    b"",
    b"\xff",
    b"x" * 9000,
]


def test_nobody_can_tell_from_a_salt_who_has_an_account(checker):
    """As new keys have them: of the same length, with as many rounds, each another."""
    real = derive(b"x")
    salts = [salt(checker, user) for user in STRANGERS]
    assert {(len(one.salt), one.iterations) for one in salts} == {(len(real.salt), real.iterations)}
    assert len({one.salt for one in salts}) == len(salts)


def test_the_salt_of_a_stranger_stays_and_does_not_depend_on_how_he_writes_himself(directory):
    key = b"k" * 32
    before, after = checker_of(directory), checker_of(directory)
    before.fake_salts = after.fake_salts = key
    for user in STRANGERS:
        assert salt(before, user) == salt(before, user) == salt(after, user)
    for user in (b"EVE@Example.NET", b'"eve"@example.net'):
        assert salt(after, user) == salt(before, b"eve@example.net")
    after.fake_salts = b"l" * 32
    assert salt(after, b"eve@example.net") != salt(before, b"eve@example.net")


def epochs(name, key=b"k" * 32, years=40):
    """The salts of a name, week by week, as (salt, weeks) in their order."""
    weeks = (steady_salt(key, name, 1.8e9 + week * 7 * 86400).salt for week in range(years * 52))
    return [(salt, len(list(same))) for salt, same in groupby(weeks)]


@pytest.mark.parametrize("name", ["eve@example.net", "eve", "", "jörg@example.net", "\ufffd"])
def test_the_salt_of_a_stranger_changes_as_those_of_accounts_do(name):
    """Now and then, at no steady pace, and never back to what it was."""
    found = epochs(name)
    assert 5 < len(found) < 40 * 366 / 60
    assert len({salt for salt, _ in found}) == len(found)
    assert len({weeks for _, weeks in found}) > 3


def test_strangers_change_at_times_of_their_own():
    """Within half a year some have changed, and most have not; no day has all of them."""
    names = [f"{n}@example.net" for n in range(500)]
    start, day = 1.8e9, 86400
    before = [steady_salt(b"k" * 32, name, start) for name in names]
    after = [steady_salt(b"k" * 32, name, start + 180 * day) for name in names]
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    assert 100 < changed < 400
    next_day = [steady_salt(b"k" * 32, name, start + day) for name in names]
    assert sum(one != other for one, other in zip(before, next_day, strict=True)) < 15


def test_the_clock_of_the_checker_tells_when(directory):
    day = [1.8e9]
    subject = Checker([directory], ImmediateExecutor(), clock=Clock().seconds, now=lambda: day[0])
    before = salt(subject, b"eve@example.net")
    known = salt(subject, b"joe@example.net")
    day[0] += 12 * 365 * 86400
    assert salt(subject, b"eve@example.net") != before
    assert salt(subject, b"joe@example.net") == known


def test_no_two_post_offices_have_the_same_salts_for_strangers():
    one, other = checker_of(MemoryDirectory()), checker_of(MemoryDirectory())
    assert salt(one, b"eve@example.net") != salt(other, b"eve@example.net")


def test_a_directory_that_cannot_say_has_no_salt(directory, checker):
    async def fails(name):
        raise TemporaryFailure("down")

    directory.find = fails
    with pytest.raises(TemporaryFailure):
        salt(checker, b"joe@example.net")


# -- keys that are derived ------------------------------------------------------------


@pytest.fixture
def some():
    """Accounts that have a password each, and no keys."""
    return directory_of(*(account(f"{who}@example.net", RIGHT) for who in "abcd"))


def keys_of(directory, who):
    found = finish(directory.find(f"{who}@example.net")).scram
    return None if found is None else Keys.parse(found)


def enter(checker, executor, *whose, password=RIGHT):
    """Log in, each with one run of the hash; what follows from it waits."""
    logins = [
        Deferred.fromCoroutine(
            checker.requestAvatarId(
                PlainLogin(f"{who}@example.net".encode(), password, Client(), "pop3")
            )
        )
        for who in whose
    ]
    derivations = []
    while executor.waiting:
        result, function, args = executor.waiting.pop(0)
        if function is derive:
            derivations.append((result, function, args))
        else:
            result.callback(function(*args))
    executor.waiting = derivations
    for login in logins:
        login.addErrback(lambda failure: failure.trap(UnauthorizedLogin) and None)
    assert all(login.called for login in logins), "a login waits for keys"
    return [login.result for login in logins]


def under_way(executor):
    return [(function, args) for _, function, args in executor.waiting]


def test_the_next_login_with_a_password_makes_the_keys_and_does_not_wait_for_them(some, executor):
    checker = checker_of(some, executor=executor)
    assert [found.address for found in enter(checker, executor, "a")] == ["a@example.net"]
    assert under_way(executor) == [(derive, (RIGHT,))]
    assert keys_of(some, "a") is None
    executor.work_on()
    keys = keys_of(some, "a")
    assert keys == derive(RIGHT, keys.salt)
    assert finish(by_scram(checker, b"a@example.net", RIGHT)).address == "a@example.net"
    assert keys_of(some, "b") is None


def test_keys_that_are_there_are_not_made_again(directory, some, executor):
    checker = checker_of(directory, some, executor=executor)
    enter(checker, executor, "joe")
    assert executor.waiting == []
    enter(checker, executor, "a")
    enter(checker, executor, "a")
    assert len(executor.waiting) == 1
    executor.work_on()
    enter(checker, executor, "a")
    assert executor.waiting == []


def test_a_wrong_password_makes_no_keys(some, executor):
    checker = checker_of(some, executor=executor)
    assert enter(checker, executor, "a", "e", password=OTHER) == [None, None]
    assert executor.waiting == []


def test_they_are_made_one_after_the_other(some, executor):
    checker = checker_of(some, executor=executor)
    enter(checker, executor, "a", "b", "c")
    for number, who in enumerate("abc", 1):
        assert len(executor.waiting) == 1
        executor.work()
        assert [keys_of(some, one) is not None for one in "abcd"] == [
            one <= who for one in "abcd"
        ], number
    assert executor.waiting == []


def test_no_more_passwords_wait_than_may_and_who_was_left_out_has_the_next_login(
    some, executor, monkeypatch
):
    monkeypatch.setattr(checker_module, "DERIVING", 2)
    checker = checker_of(some, executor=executor)
    enter(checker, executor, "a", "b", "c")
    executor.work_on()
    assert [keys_of(some, who) is not None for who in "abc"] == [True, True, False]
    enter(checker, executor, "c")
    executor.work_on()
    assert keys_of(some, "c")


def test_keys_of_a_password_that_was_changed_meanwhile_are_not_kept(some, executor):
    checker = checker_of(some, executor=executor)
    enter(checker, executor, "a")
    finish(some.set_secret("a@example.net", HASHES[OTHER]))
    executor.work_on()
    assert keys_of(some, "a") is None
    enter(checker, executor, "a", password=OTHER)
    executor.work_on()
    keys = keys_of(some, "a")
    assert keys == derive(OTHER, keys.salt)


@pytest.mark.parametrize(
    ("why", "is_ours"),
    [(TemporaryFailure("the disk is full"), False), (ValueError("a mistake of ours"), True)],
)
def test_trouble_with_one_is_logged_without_his_password_and_the_others_get_theirs(
    some, executor, failures, why, is_ours
):
    keep = some.keep_scram

    async def keeps(name, secret, keys):
        if name == "a@example.net":
            raise why
        return await keep(name, secret, keys)

    some.keep_scram = keeps
    checker = checker_of(some, executor=executor)
    with capturedLogs() as logged:
        enter(checker, executor, "a", "b")
        executor.work_on()
    (event,) = logged
    assert "a@example.net" in eventAsText(event)
    assert "secret word" not in eventAsText(event)
    assert [failure.value for failure in failures] == [why] * is_ours
    failures.clear()
    assert (keys_of(some, "a"), keys_of(some, "b") is not None) == (None, True)


class Table:
    """A directory that nobody can write to, as those of plugins are."""

    def __init__(self, *accounts):
        self.accounts = {one.address: one for one in accounts}

    async def find(self, name):
        return self.accounts.get(name)


def test_no_keys_are_made_for_whom_they_cannot_be_kept(some, executor):
    """It would be work for nothing, with every login."""
    checker = checker_of(Table(account("a@example.net", RIGHT)), some, executor=executor)
    enter(checker, executor, "a", "b")
    executor.work_on()
    assert (keys_of(some, "a"), keys_of(some, "b") is not None) == (None, True)
    enter(checker, executor, "a")
    assert executor.waiting == []


def test_whom_another_checker_vouches_for_gets_no_keys(some, executor):
    class Vouches:
        credentialInterfaces = Checker.credentialInterfaces

        def requestAvatarId(self, credentials):
            return b"a@example.net"

    checker = checker_of(some, executor=executor, others=[Vouches()])
    (found,) = enter(checker, executor, "a", password=OTHER)
    assert found.address == "a@example.net"
    assert executor.waiting == []


# -- the end ------------------------------------------------------------------------


def test_who_derives_nothing_stops_at_once(checker):
    for _ in range(2):
        finish(checker.stop())


def test_the_stop_waits_for_what_is_under_way_and_for_no_more(some, executor):
    checker = checker_of(some, executor=executor)
    enter(checker, executor, "a", "b")
    stopped = [Deferred.fromCoroutine(checker.stop()) for _ in range(2)]
    assert not any(one.called for one in stopped)
    executor.work()
    assert all(one.called for one in stopped)
    assert executor.waiting == []
    assert [keys_of(some, who) is not None for who in "ab"] == [True, False]
    finish(checker.stop())
    assert not checker._deriving, "a password stays in memory"


def test_after_the_stop_no_keys_are_made(some, executor):
    checker = checker_of(some, executor=executor)
    finish(checker.stop())
    assert enter(checker, executor, "a") != [None]
    assert executor.waiting == []
