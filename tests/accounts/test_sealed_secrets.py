"""Secrets that lie encrypted, and the file that their key is in."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postoffice.accounts import sealed_secrets
from postoffice.accounts.sealed_secrets import Seal, key, make_key
from postoffice.model.errors import TemporaryFailure


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "accounts.key")


def written(path, octets):
    with open(path, "wb") as file:
        file.write(octets)


def contents(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("text", ["tanstaaf", "", "schön \0\n", "\udcff\udcfe", "x" * 10_000])
def test_what_was_sealed_can_be_read_again_and_not_seen(path, text):
    token = Seal(path).seal(text)
    assert Seal(path).unseal(token) == text
    assert not text or text not in token
    assert Seal(path).seal(text) != token, "nobody sees that two have the same"


def test_the_key_is_made_when_it_is_first_needed_and_then_stays(path):
    seal = Seal(path)
    assert not os.path.lexists(path)
    token = seal.seal("one")
    first = contents(path)
    Seal(path).seal("other")
    assert contents(path) == first
    os.unlink(path)
    assert seal.unseal(token) == "one", "it is not read again each time"


def test_to_read_makes_no_key(path):
    with pytest.raises(TemporaryFailure, match="No such file"):
        Seal(path).unseal("x")
    assert not os.path.lexists(path)


def test_another_key_tells_nothing_and_the_failure_says_what_to_do(path, tmp_path):
    token = Seal(path).seal("tanstaaf")
    other = Seal(str(tmp_path / "other.key"))
    other.seal("x")
    with pytest.raises(TemporaryFailure, match=r"other\.key is not the key") as raised:
        other.unseal(token)
    assert "tanstaaf" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.fixture
def seal(path):
    return Seal(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda token: "",
        lambda token: "tanstaaf",
        lambda token: "schön",
        lambda token: "=",
        lambda token: token[:-4],
        lambda token: token[4:],
        lambda token: token[:40] + ("A" if token[40] != "A" else "B") + token[41:],
        lambda token: token.swapcase(),
        lambda token: b"\xff" + token.encode()[1:],
    ],
    ids=["empty", "clear", "no-ascii", "padding", "end", "begin", "bit", "case", "blob"],
)  # fmt: skip
def test_a_text_that_was_tampered_with_is_not_unsealed(seal, change):
    token = seal.seal("tanstaaf")
    with pytest.raises(TemporaryFailure, match="is not the key"):
        seal.unseal(change(token))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=100))
def test_any_text_is_refused_and_nothing_else(seal, text):
    seal.seal("x")
    with pytest.raises(TemporaryFailure):
        seal.unseal(text)


@pytest.mark.parametrize("octets", [b"", b"\n", b"no key\n", b"\xff" * 44, b"x" * 100_000])
def test_a_file_that_has_no_key_means_later_and_is_left_alone(path, octets):
    written(path, octets)
    for seals in (Seal(path).seal, Seal(path).unseal):
        with pytest.raises(TemporaryFailure, match=f"the key file {path}"):
            seals("tanstaaf")
    assert contents(path) == octets


def folder(path):
    os.mkdir(path)


def dangling(path):
    os.symlink("nowhere", path)


@pytest.mark.parametrize("trouble", [folder, dangling])
@pytest.mark.parametrize("ask", [key, lambda path: Seal(path).seal("x")], ids=["key", "seal"])
def test_a_file_that_cannot_be_read_means_later(path, trouble, ask):
    trouble(path)
    with pytest.raises(TemporaryFailure, match=f"the key file {path}"):
        ask(path)


def test_a_key_that_cannot_be_made_means_later(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.key", tmp_path / "none" / "x.key"):
        with pytest.raises(TemporaryFailure, match=f"the key file {path}"):
            make_key(str(path))


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_nobody_else_can_read_the_key(path, umask):
    before = os.umask(umask)
    try:
        key(path)
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o077 == 0
    assert os.stat(path).st_mode & 0o400


def test_a_key_outlives_restarts_and_is_another_in_each_place(path, tmp_path):
    assert key(path) == key(path)
    assert len(key(path)) >= 32
    assert key(path) != key(str(tmp_path / "other.key"))


@pytest.mark.parametrize("octets", [b"", b" \n", b"short"])
def test_a_key_that_anybody_could_guess_is_none(path, octets):
    written(path, octets)
    with pytest.raises(TemporaryFailure, match=f"the key file {path}"):
        key(path)


def test_two_that_make_the_key_at_once_have_one(path, monkeypatch):
    """The slower one has looked already, and seen that there is none."""
    token = Seal(path).seal("tanstaaf")
    first = contents(path)
    monkeypatch.setattr(sealed_secrets.os.path, "lexists", lambda path: False)
    slower = Seal(path)
    slower.seal("x")
    assert contents(path) == first
    assert slower.unseal(token) == "tanstaaf"


def test_no_draft_is_left_whatever_happens(path, tmp_path, monkeypatch):
    key(path)
    assert os.listdir(tmp_path) == ["accounts.key"]

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealed_secrets.os, "fsync", full)
    with pytest.raises(TemporaryFailure, match="No space left"):
        make_key(str(tmp_path / "other.key"))
    assert os.listdir(tmp_path) == ["accounts.key"]
