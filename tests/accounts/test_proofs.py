"""Logins by SCRAM and by shared secrets; salts; and keys that are derived behind the answers."""

from __future__ import annotations

import hmac
from hashlib import md5
from itertools import groupby
from typing import ClassVar

import pytest
from twisted.cred.credentials import CramMD5Credentials, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.task import Clock

from postoffice.accounts.checker import Checker
from postoffice.accounts.credentials import IBearerLogin, PlainLogin, credentials_of
from postoffice.accounts.fake_salts import steady_salt
from postoffice.accounts.memory import MemoryDirectory
from postoffice.model.envelope import Client
from postoffice.model.errors import TemporaryFailure
from postoffice.protocol.sasl import APOPClaim, BearerClaim, exchange
from postoffice.protocol.scram import Salt, derive
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish
from tests.accounts.proving import (
    ANN,
    HASHES,
    JOE,
    KEYS,
    OTHER,
    RIGHT,
    SHARED,
    by_scram,
    checker_of,
    everybody,
)


@pytest.fixture
def directory():
    return everybody()


@pytest.fixture
def executor():
    return ManualExecutor()


@pytest.fixture
def checker(directory):
    return checker_of(directory)


@pytest.mark.parametrize(
    ("user", "password", "name"),
    [
        (b"joe@example.net", RIGHT, JOE),
        (b"JOE@Example.NET", RIGHT, JOE),
        ("jörg@example.net".encode(), OTHER, "jörg@example.net"),
        ("JO\u0308RG@example.net".encode(), OTHER, "jörg@example.net"),
    ],
)
def test_scram_accepts_the_right_password(checker, user, password, name):
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
def test_cram_md5_accepts_the_shared_secret(checker, user, secret, name):
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


def test_an_account_without_secrets_cannot_log_in(directory, checker):
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


def test_the_salt_of_an_account_is_that_of_its_keys(checker):
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


def test_salts_do_not_reveal_which_accounts_exist(checker):
    """As new keys have them: of the same length, with as many rounds, each another."""
    real = derive(b"x")
    salts = [salt(checker, user) for user in STRANGERS]
    assert {(len(one.salt), one.iterations) for one in salts} == {(len(real.salt), real.iterations)}
    assert len({one.salt for one in salts}) == len(salts)


def test_the_salt_of_an_unknown_name_stays_in_every_spelling(directory):
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
