"""The passwords of devices: read as they are typed, and taken where they may be used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from postoffice.accounts import app_passwords as module
from postoffice.accounts import passwords
from postoffice.accounts.app_passwords import AppPasswordToken
from postoffice.accounts.attempts import Allowance, Attempts
from postoffice.accounts.checker import Checker
from postoffice.accounts.credentials import PlainLogin, ScramLogin
from postoffice.accounts.login_db import LoginDB
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwords import LETTERS
from postoffice.accounts.throttle import Throttle
from postoffice.model.address import Account
from postoffice.model.app_password import AppPassword
from postoffice.model.envelope import Client
from postoffice.protocol.sasl import exchange
from postoffice.protocol.scram import Salt, derive
from postoffice.testing import ImmediateExecutor, ScramClient, finish

JOE, ANN = "joe@example.net", "ann@example.net"
RIGHT, NOW = b"secret word", 1_800_000_000.0
PHONE = AppPasswordToken.read("k3hxqt-8acdfw-9pnrt4-yjhm7e")
PAD = AppPasswordToken.read("d4wqac-39xyj7-tkrfh8-amnpe3")
SALT = Salt(b"salt of joe's", 4096)


def device(name, password, **how):
    return AppPassword(name, password.id, password.digest, **how)


# -- the password ------------------------------------------------------------------------


def test_each_is_another_of_four_groups():
    made = [AppPasswordToken.generate() for _ in range(200)]
    assert len({one.text for one in made}) == 200
    for one in made:
        assert [len(group) for group in one.text.split("-")] == [6, 6, 6, 6]
        assert set(one.text) <= {*LETTERS, "-"}
        assert one.text.startswith(one.id + "-")


@given(st.sampled_from(["-", " ", "", " - "]), st.integers(0, 2**36))
def test_it_is_read_as_people_type_it(between, capitals):
    typed = PHONE.text.replace("-", between)
    letters = [one.upper() if capitals >> n & 1 else one for n, one in enumerate(typed)]
    assert AppPasswordToken.read("".join(letters).encode()) == PHONE


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_nothing_else_is_read_as_one(password):
    found = AppPasswordToken.read(password)
    assert found is None or len(found.text) == 27


@pytest.mark.parametrize(
    "password", [PHONE.text[:-1], PHONE.text + "a", "gagkqp-4n9yrq-zgns9d", ""]
)
def test_a_part_or_more_is_none(password):
    assert AppPasswordToken.read(password) is None


def test_it_is_that_of_the_device_with_all_of_it():
    phone, pad = device("phone", PHONE), device("pad", PAD)
    assert PAD.of([phone, pad]) == pad
    assert AppPasswordToken.generate().of([phone, pad]) is None
    same_id = AppPasswordToken(PHONE.id, f"{PHONE.id}-{PAD.text[7:]}")
    assert same_id.of([phone, pad]) is None
    assert same_id.of([phone, device("twin", same_id)]).name == "twin"
    assert PHONE.of([]) is None


def test_it_is_not_shown():
    assert PHONE.text not in repr(PHONE)


# -- logging in --------------------------------------------------------------------------


@pytest.fixture
def runs(monkeypatch):
    """Each run of the hash; here the hash of a password is the password and a colon."""
    seen = []

    def verify(secret, password):
        seen.append(password)
        return secret == password.decode() + ":"

    monkeypatch.setattr(passwords, "verify", verify)
    return seen


@pytest.fixture
def directory(runs):
    directory = MemoryDirectory()
    finish(directory.add_domain("example.net"))
    keys = str(derive(RIGHT, SALT.salt, SALT.iterations))
    finish(directory.add(JOE, RIGHT.decode() + ":", keys))
    finish(directory.add(ANN, None))
    return directory


def add(directory, one, account=JOE):
    assert finish(directory.add_app_password(account, one))


def checker_of(directory, now=NOW, throttle=None):
    return Checker(
        [directory], ImmediateExecutor(), clock=Clock().seconds, throttle=throttle, now=lambda: now
    )


def login(checker, password, user=JOE, service="pop3", address="192.0.2.1"):
    octets = password.text.encode() if isinstance(password, AppPasswordToken) else password
    credentials = PlainLogin(user.encode(), octets, Client(address), service)
    try:
        return finish(checker.requestAvatarId(credentials))
    except UnauthorizedLogin:
        return None


def test_a_device_logs_in_without_a_hash_and_is_named(directory, runs):
    add(directory, device("phone", PHONE))
    add(directory, device("pad", PAD))
    checker = checker_of(directory)
    for password, name in ((PHONE, "phone"), (PAD, "pad")):
        found = login(checker, password)
        assert (found.address, found.device) == (JOE, name)
    assert runs == []
    assert login(checker, RIGHT).device == ""
    assert len(runs) == 1


def test_an_account_without_a_password_of_its_own_can_have_devices(directory):
    add(directory, device("phone", PHONE), ANN)
    assert login(checker_of(directory), PHONE, ANN).device == "phone"
    assert login(checker_of(directory), RIGHT, ANN) is None


def test_a_device_is_its_accounts_alone_and_a_wrong_password_costs_what_others_do(directory, runs):
    add(directory, device("phone", PHONE), ANN)
    checker = checker_of(directory)
    near = AppPasswordToken.read(PHONE.text[:-6] + PAD.text[-6:])
    attempts = [(PHONE, JOE), (PHONE, "eve@example.net"), (near, ANN), (PAD, ANN)]
    for count, (password, user) in enumerate(attempts, 1):
        assert login(checker, password, user) is None
        assert len(runs) == count


def test_one_that_was_taken_away_fails_at_once(directory):
    add(directory, device("phone", PHONE))
    checker = checker_of(directory)
    assert login(checker, PHONE)
    finish(directory.remove_app_password(JOE, "phone"))
    assert login(checker, PHONE) is None


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"expires": NOW}, "it has expired"),
        ({"protocol": "smtp"}, "it is for smtp only"),
        ({"networks": ("198.51.100.0/24",)}, "it is for 198.51.100.0/24 only"),
    ],
)
def test_where_it_may_not_be_used_it_is_wrong_and_the_log_says_why(directory, limits, why):
    add(directory, device("phone", PHONE, **limits))
    with capturedLogs() as logged:
        assert login(checker_of(directory), PHONE) is None
    event, *_ = logged  # and that the stored hash is none
    said = eventAsText(event)
    assert " [postoffice#info] device-refused service=" in said
    assert f' account={JOE} device=phone why="{why}"' in said
    assert PHONE.text not in said


def test_twisteds_own_credentials_say_nothing_of_where_they_come_from(directory):
    add(directory, device("phone", PHONE))
    add(directory, device("pad", PAD, protocol="smtp"))
    checker = checker_of(directory)

    def login(password):
        credentials = UsernamePassword(JOE.encode(), password.text.encode())
        return finish(checker.requestAvatarId(credentials))

    assert login(PHONE).device == "phone"
    with pytest.raises(UnauthorizedLogin):
        login(PAD)


def test_one_that_was_wrong_at_one_service_is_looked_at_again_at_another(directory, tmp_path, runs):
    """It is not the same again: what is wrong with it may be the service, or the address."""
    login_db = LoginDB(str(tmp_path / "logins.db"))
    login_db.open()
    attempts = Attempts(login_db, Allowance(100, 60), Allowance(100, 60))
    throttle = Throttle(attempts, ImmediateExecutor(), Clock(), Allowance(100, 60))
    add(directory, device("phone", PHONE, protocol="pop3", networks=("2001:db8::2",)))
    checker = checker_of(directory, throttle=throttle)
    for _ in range(3):
        assert login(checker, PHONE, service="submission", address="2001:db8::2") is None
        assert login(checker, PHONE, address="2001:db8::1") is None
    assert len(runs) == 2
    assert login(checker, PHONE, address="2001:db8::2").device == "phone"
    login_db.close()


# -- SCRAM -------------------------------------------------------------------------------


def by_scram(checker, password, user=JOE):
    """Who it is, once the server has shown its signature."""
    running = exchange("SCRAM-SHA-256", hostname="mail.example.net", bindings={}, plus=False)
    client = ScramClient(user.encode(), password, b"nonce")
    next(running)
    challenge = running.send(finish(checker.salt(running.send(client.first).user)))
    claim = running.send(client.final(challenge.octets))
    try:
        found = finish(checker.requestAvatarId(ScramLogin(claim, Client("192.0.2.1"), "pop3")))
    except UnauthorizedLogin:
        return None
    assert running.send(None).octets == client.verdict
    return found


def with_keys(name, password, salt=SALT, **how):
    keys = derive(password.text.encode(), salt.salt, salt.iterations)
    return device(name, password, scram=str(keys), **how)


def test_devices_and_their_account_log_in_by_scram_as_they_are(directory, runs):
    add(directory, with_keys("phone", PHONE))
    add(directory, with_keys("pad", PAD))
    checker = checker_of(directory)
    assert by_scram(checker, PHONE.text.encode()).device == "phone"
    assert by_scram(checker, PAD.text.encode()).device == "pad"
    assert by_scram(checker, RIGHT).device == ""
    assert by_scram(checker, b"wrong") is None
    assert runs == []


def test_an_account_that_has_only_devices_tells_their_salt(directory):
    salt = Salt(b"salt of ann's", 4097)
    add(directory, with_keys("phone", PHONE, salt), ANN)
    assert finish(checker_of(directory).salt(ANN.encode())) == salt
    assert by_scram(checker_of(directory), PHONE.text.encode(), ANN).device == "phone"


def test_where_it_may_not_be_used_its_proof_is_wrong_too(directory):
    add(directory, with_keys("phone", PHONE, protocol="smtp"))
    assert by_scram(checker_of(directory), PHONE.text.encode()) is None


@pytest.mark.parametrize("broken", [None, "no keys"])
def test_one_without_keys_logs_in_otherwise(directory, broken):
    add(directory, device("phone", PHONE, scram=broken))
    assert by_scram(checker_of(directory), PHONE.text.encode()) is None
    assert by_scram(checker_of(directory), RIGHT)
    assert login(checker_of(directory), PHONE)


def test_keys_that_an_account_gets_later_have_the_salt_of_its_devices(directory):
    salt = Salt(b"salt of the phone", 4098)
    finish(directory.set_secret(JOE, RIGHT.decode() + ":"))
    add(directory, with_keys("phone", PHONE, salt))
    checker = checker_of(directory)
    assert login(checker, RIGHT)
    assert module.salt(finish(directory.find(JOE)), ()) == salt
    assert by_scram(checker, RIGHT).device == ""
    assert by_scram(checker, PHONE.text.encode()).device == "phone"


def test_an_account_without_keys_has_no_salt():
    assert module.salt(Account(JOE, JOE), [device("phone", PHONE)]) is None
