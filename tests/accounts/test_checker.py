"""The one checker, through the portal; and that nobody learns who has an account here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.cred.checkers import ANONYMOUS, FilePasswordDB, ICredentialsChecker
from twisted.cred.credentials import Anonymous, IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText
from zope.interface import implementer
from zope.interface.verify import verifyObject

from postoffice.accounts import passwords
from postoffice.accounts.checker import Checker
from postoffice.accounts.credentials import PlainLogin
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwords import NOBODYS, hash_password
from postoffice.accounts.realm import Realm
from postoffice.interfaces import IMaildrop, IReception
from postoffice.model.address import Account
from postoffice.model.envelope import Client
from postoffice.model.errors import TemporaryFailure
from postoffice.server.mailbox import MailboxContext
from postoffice.store.memory import MemoryStore
from postoffice.testing import ImmediateExecutor, finish

RIGHT, OTHER = b"secret word", b"other word"
HASHES = {word: hash_password(word) for word in (RIGHT, OTHER)}
RECEPTION = object()


class House:
    """Takes in strangers."""

    def reception(self, session_info):
        return RECEPTION


def directory_of(*accounts):
    directory = MemoryDirectory()
    for name, secret in accounts:
        finish(directory.add_domain(name.rpartition("@")[2]))
        finish(directory.add(name, secret))
    return directory


@pytest.fixture
def directory():
    return directory_of(
        ("joe@example.net", HASHES[RIGHT]),
        ("ann@example.net", HASHES[OTHER]),
        ("jörg@example.net", HASHES[RIGHT]),
        ("a b@example.net", HASHES[RIGHT]),
        ("postmaster@example.net", None),
    )


def checker_of(*directories, others=()):
    return Checker(directories, ImmediateExecutor(), clock=Clock().seconds, others=others)


def login(checker, user, password):
    return finish(checker.requestAvatarId(PlainLogin(user, password, Client(), "pop3")))


def refused(checker, user, password):
    with pytest.raises(UnauthorizedLogin) as raised:
        login(checker, user, password)
    return raised.value


def test_it_is_a_checker(directory):
    assert verifyObject(ICredentialsChecker, checker_of(directory))


@pytest.mark.parametrize(
    ("user", "address"),
    [
        (b"joe@example.net", "joe@example.net"),
        (b"JOE@Example.NET", "joe@example.net"),
        (b'"joe"@example.net', "joe@example.net"),
        ("JÖRG@example.net".encode(), "jörg@example.net"),
        (b'"a b"@example.net', "a b@example.net"),
    ],
)
def test_the_right_password_makes_an_account_of_a_name(directory, user, address):
    assert login(checker_of(directory), user, RIGHT).address == address


def test_twisteds_own_credentials_do(directory):
    credentials = UsernamePassword(b"joe@example.net", RIGHT)
    assert finish(checker_of(directory).requestAvatarId(credentials)).address == "joe@example.net"


def test_nobody_is_anonymous(directory):
    assert finish(checker_of(directory).requestAvatarId(Anonymous())) is ANONYMOUS


STRANGERS = [
    b"joe@example.net",  # whose password is another
    b"ann@example.net",
    b"postmaster@example.net",  # has no password
    b"eve@example.net",
    b"joe@example.org",
    b"joe",
    b"",
    b"@",
    b"joe@",
    b"@example.net",
    b"joe@@example.net",
    b"joe@example.net\0",
    b"joe@example..net",
    b"\xff\xfe@example.net",
    b"../joe@example.net",
    b"joe@" + b"x" * 10_000,
    b"%s%n@example.net",
]


def test_unknown_user_and_wrong_password_cannot_be_told_apart(directory, hashes_verified):
    """Each is one run of the same parameters, and the same error without a word."""
    checker = checker_of(directory)
    errors = []
    for user in STRANGERS:
        before = len(hashes_verified)
        errors.append(refused(checker, user, b"wrong word"))
        assert len(hashes_verified) == before + 1, user
    assert {(type(error), error.args, str(error)) for error in errors} == {
        (UnauthorizedLogin, (), "")
    }
    assert len({secret.split("$")[1:4].__repr__() for secret in hashes_verified}) == 1
    assert all(error.__cause__ is None and error.__context__ is None for error in errors)


def test_a_second_try_costs_what_the_first_did(directory, hashes_verified):
    checker = checker_of(directory)
    for user in (b"joe@example.net", b"eve@example.net"):
        for _ in range(3):
            refused(checker, user, b"wrong word")
    assert hashes_verified == [HASHES[RIGHT]] * 3 + [NOBODYS] * 3


def test_a_password_that_was_right_is_not_hashed_again(directory, hashes_verified):
    checker = checker_of(directory)
    for user in (b"joe@example.net", b"JOE@example.net", b"joe@example.net"):
        assert login(checker, user, RIGHT).address == "joe@example.net"
    assert len(hashes_verified) == 1


def test_the_same_password_of_another_account_is_another(directory, hashes_verified):
    checker = checker_of(directory)
    login(checker, b"joe@example.net", RIGHT)
    refused(checker, b"ann@example.net", RIGHT)
    refused(checker, b"eve@example.net", RIGHT)
    assert len(hashes_verified) == 3


def test_a_changed_password_works_and_the_old_one_fails_at_once(directory):
    checker = checker_of(directory)
    login(checker, b"joe@example.net", RIGHT)
    finish(directory.set_secret("joe@example.net", HASHES[OTHER]))
    refused(checker, b"joe@example.net", RIGHT)
    assert login(checker, b"joe@example.net", OTHER).secret == HASHES[OTHER]


def test_an_account_that_is_removed_or_loses_its_password_is_out_at_once(directory):
    checker = checker_of(directory)
    for user in (b"joe@example.net", "jörg@example.net".encode()):
        login(checker, user, RIGHT)
    finish(directory.remove("joe@example.net"))
    finish(directory.set_secret("jörg@example.net", None))
    refused(checker, b"joe@example.net", RIGHT)
    refused(checker, "jörg@example.net".encode(), RIGHT)


def test_the_first_directory_that_knows_has_the_word():
    first = directory_of(("joe@example.net", HASHES[OTHER]))
    second = directory_of(("joe@example.net", HASHES[RIGHT]), ("ann@example.net", HASHES[RIGHT]))
    checker = checker_of(first, second)
    refused(checker, b"joe@example.net", RIGHT)
    assert login(checker, b"joe@example.net", OTHER)
    assert login(checker, b"ann@example.net", RIGHT)


def test_a_directory_that_cannot_say_is_no_wrong_password(directory):
    async def fails(name):
        raise TemporaryFailure("down")

    directory.find = fails
    with pytest.raises(TemporaryFailure):
        login(checker_of(directory), b"joe@example.net", RIGHT)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=20))
def test_any_octets_are_refused_and_nothing_else(user, password):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "verify", lambda secret, password: False)
        refused(checker_of(directory_of(("joe@example.net", HASHES[RIGHT]))), user, password)


# -- checkers of others ---------------------------------------------------------


@implementer(ICredentialsChecker)
class Vouches:
    """A checker that vouches for whatever it is told to, or raises it."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, outcome):
        self.outcome = outcome
        self.asked = 0

    def requestAvatarId(self, credentials):
        self.asked += 1
        return fail(self.outcome) if isinstance(self.outcome, Exception) else self.outcome


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "mail.passwd"
    path.write_bytes(b"joe@example.net:file word\nANN@Example.net:file word\neve@example.net:x\n")
    return FilePasswordDB(str(path))


def test_a_password_file_of_twisted_vouches_for_our_accounts(directory, password_file):
    checker = checker_of(directory, others=[password_file])
    assert login(checker, b"joe@example.net", b"file word").address == "joe@example.net"
    assert login(checker, b"ANN@Example.net", b"file word").address == "ann@example.net"
    assert login(checker, b"joe@example.net", RIGHT).address == "joe@example.net"
    refused(checker, b"joe@example.net", b"wrong word")
    refused(checker, b"jim@example.net", b"file word")


def test_a_login_of_an_unknown_account_fails_and_the_log_says_why(directory, password_file):
    checker = checker_of(directory, others=[password_file])
    with capturedLogs() as logged:
        refused(checker, b"eve@example.net", b"x")
    (event,) = logged
    assert " voucher-failed user=eve@example.net why=" in eventAsText(event)


@pytest.mark.parametrize(
    "said",
    [b"joe@example.net", "joe@example.net", "JOE@example.net", Account("joe@example.net", "x")],
)
def test_others_may_name_an_account_in_any_form(directory, said):
    found = login(checker_of(directory, others=[Vouches(said)]), b"whoever", b"x")
    assert found == Account("joe@example.net", "joe@example.net", HASHES[RIGHT])


@pytest.mark.parametrize(
    "said",
    [ANONYMOUS, None, b"", b"joe", b"\xff", 7, Account("eve@example.net", "joe@example.net")],
)
def test_others_cannot_make_accounts_up(directory, said):
    refused(checker_of(directory, others=[Vouches(said)]), b"whoever", b"x")


def test_others_are_asked_in_their_order_and_only_where_no_directory_vouches(directory):
    first, second = Vouches(UnauthorizedLogin()), Vouches(b"ann@example.net")
    third = Vouches(b"joe@example.net")
    checker = checker_of(directory, others=[first, second, third])
    assert login(checker, b"joe@example.net", b"other").address == "ann@example.net"
    assert login(checker, b"joe@example.net", RIGHT).address == "joe@example.net"
    assert (first.asked, second.asked, third.asked) == (1, 1, 0)


def test_trouble_of_others_is_no_wrong_password(directory):
    checker = checker_of(directory, others=[Vouches(OSError("the LDAP server is down"))])
    with pytest.raises(OSError, match="down"):
        login(checker, b"joe@example.net", b"x")


def test_others_are_not_asked_about_what_they_do_not_know(directory):
    other = Vouches(b"joe@example.net")
    other.credentialInterfaces = ()
    refused(checker_of(directory, others=[other]), b"joe@example.net", b"x")
    assert not other.asked


# -- networks -----------------------------------------------------------------


def from_there(checker, address, user=b"joe@example.net", password=RIGHT):
    return finish(checker.requestAvatarId(PlainLogin(user, password, Client(address), "pop3s")))


@pytest.fixture
def at_home(directory):
    """Joe, who may log in from two networks only."""
    joe = finish(directory.find("joe@example.net"))
    networks = ("192.0.2.0/24", "2001:db8::/32")
    directory._accounts[joe.address] = replace(joe, networks=networks)
    return directory


@pytest.mark.parametrize("others", [[], [Vouches(b"joe@example.net")]], ids=["own", "vouched"])
def test_an_account_with_networks_logs_in_from_those_only(at_home, logged, others):
    checker = checker_of(at_home, others=others)
    for address in ("192.0.2.7", "2001:db8::1"):
        assert from_there(checker, address).address == "joe@example.net"
    for address in ("192.0.3.7", "127.0.0.1", ""):
        with pytest.raises(UnauthorizedLogin) as caught:
            from_there(checker, address)
        assert not caught.value.args
        assert logged.pop() == (
            f"network-refused service=pop3s client={address or 'local'} account=joe@example.net "
            'why="it is for 192.0.2.0/24, 2001:db8::/32 only"'
        )
    assert from_there(checker_of(at_home), "192.0.3.7", "jörg@example.net".encode())


def test_a_wrong_password_from_elsewhere_tells_nothing_of_networks(at_home, logged):
    with pytest.raises(UnauthorizedLogin):
        from_there(checker_of(at_home), "192.0.3.7", password=b"wrong word")
    assert logged == []


# -- the whole way --------------------------------------------------------------


def test_through_the_portal_an_owner_gets_his_maildrop_and_a_stranger_the_reception(directory):
    portal = Portal(Realm(MailboxContext(MemoryStore()), House()), [checker_of(directory)])

    async def enter(credentials, wanted):
        return await portal.login(credentials, None, wanted)

    joe = PlainLogin(b"joe@example.net", RIGHT, Client(), "pop3")
    which, maildrop, logout = finish(enter(joe, IMaildrop))
    assert which is IMaildrop
    assert finish(maildrop.open()).entries == ()
    logout()
    assert finish(enter(Anonymous(), IReception))[:2] == (IReception, RECEPTION)
    for nobody in (
        Anonymous(),
        PlainLogin(b"joe@example.net", b"wrong", Client(), "pop3"),
        PlainLogin(b"eve@example.net", RIGHT, Client(), "pop3"),
    ):
        with pytest.raises(UnauthorizedLogin):
            finish(enter(nobody, IMaildrop))


def test_no_secret_is_in_what_is_shown_or_logged(directory, password_file):
    checker = checker_of(directory, others=[password_file])
    shown = []
    with capturedLogs() as logged:
        account = login(checker, b"joe@example.net", RIGHT)
        shown += [repr(account), str(account), f"{[account]}", repr(checker)]
        for user in STRANGERS:
            shown.append(repr(refused(checker, user, OTHER + b"!")))
        refused(checker, b"eve@example.net", b"x")
    shown += [eventAsText(event) + repr(event) for event in logged]
    for secret in ("secret word", "other word", "$argon2"):
        assert all(secret not in text for text in shown)
