"""Tokens: what is formatted is parsed again, and an error names the part that is wrong."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.tokens import (
    DIGEST_LENGTH,
    SECRET_MAX,
    JoinToken,
    UserToken,
    digest_of,
    parse_join_token,
    parse_user_token,
    secret_of,
)

DIGEST = digest_of(b"root")
SECRET = secret_of(36**24 + 5)
ID = "0123456789abcdefghijklmno"
JOIN = str(JoinToken(DIGEST, SECRET))
USER = str(UserToken(DIGEST, ID, SECRET))

ders = st.binary(max_size=40)
secrets = st.integers(0, SECRET_MAX - 1).map(secret_of)
ids = st.text("0123456789abcdefghijklmnopqrstuv", min_size=25, max_size=25)


@given(ders, secrets)
def test_prop_a_join_token_is_read_as_it_was_written(der: bytes, secret: str) -> None:
    token = JoinToken(digest_of(der), secret)
    assert parse_join_token(f" {token}\n") == token
    assert str(parse_join_token(str(token))) == str(token)


@given(ders, ids, secrets)
def test_prop_a_user_token_is_read_as_it_was_written(der: bytes, name: str, secret: str) -> None:
    token = UserToken(digest_of(der), name, secret)
    assert parse_user_token(str(token)) == token


@given(ders)
def test_prop_a_digest_keeps_all_bits(der: bytes) -> None:
    text = digest_of(der)
    assert len(text) == DIGEST_LENGTH == 50
    assert int(text, 36).to_bytes(32) == hashlib.sha256(der).digest()


@given(st.text(max_size=120))
def test_prop_any_other_text_is_refused(text: str) -> None:
    for parse in (parse_join_token, parse_user_token):
        with pytest.raises(InvalidArgument, match="the token is not valid"):
            parse(text)


@given(st.integers(0, len(JOIN) - 1), st.sampled_from("-_A é"))
def test_prop_a_damaged_token_is_refused(place: int, letter: str) -> None:
    damaged = JOIN[:place] + letter + JOIN[place + 1 :]
    if damaged != JOIN:
        with pytest.raises(InvalidArgument):
            parse_join_token(damaged)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (USER, "it is a user token, expected a join token (PYSWM-1-DIGEST-SECRET)"),
        ("SWMTKN-1-abc-def", "it is a token of Docker Swarm, expected a join token"),
        ("", "it does not begin with PYSWM-"),
        ("PYSWM-2-" + JOIN[8:], "its version is not 1"),
        ("PYSWM-1-" + DIGEST, "it has 3 parts instead of 4"),
        ("PYSWM", "it has 1 parts instead of 4"),
        (JOIN + "-x", "it has 5 parts instead of 4"),
        (JOIN[:-1], "its secret has 24 characters instead of 25: part of it is missing"),
        (JOIN + "0", "its secret has 26 characters instead of 25: it is too long"),
        ("PYSWM-1-" + JOIN[8:].upper(), "its digest has characters other than 0-9"),
        (f"PYSWM-1-{DIGEST[1:]}-{SECRET}", "its digest has 49 characters instead of 50"),
        (f"PYSWM-1-{'z' * 50}-{SECRET}", "its digest is larger than 256 bits"),
    ],
)
def test_the_error_names_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_join_token(text)
    assert reason in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_error_of_a_user_token_names_its_id_and_kind() -> None:
    with pytest.raises(InvalidArgument, match="its id has 3 characters instead of 25"):
        parse_user_token(f"PYSWU-1-{DIGEST}-abc-{SECRET}")
    with pytest.raises(InvalidArgument, match="it is a join token, expected a user token"):
        parse_user_token(JOIN)


def test_digits_are_those_of_base_36() -> None:
    assert secret_of(0) == "0" * 25
    assert secret_of(35) == "0" * 24 + "z"
    assert secret_of(SECRET_MAX - 1) == "z" * 25
    with pytest.raises(AssertionError):
        secret_of(SECRET_MAX)
