"""SCRAM-SHA-256 as RFC 7677 has it, and what is refused of it."""

from __future__ import annotations

import base64

import pytest

from likewise.worker._scram import Conversation, Malformed, Refused, Verifier, prepared

# The example of RFC 7677, 3.
PASSWORD = "pencil"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
UNPROVEN = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
LAST = UNPROVEN + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_LAST = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def example(password: str = PASSWORD, nonce: bytes = NONCE) -> Conversation:
    return Conversation(Verifier.of(password, salt=SALT), nonce=nonce)


def test_the_example_of_the_rfc() -> None:
    conversation = example()
    assert conversation.first(FIRST) == SERVER_FIRST
    assert conversation.last(LAST) == SERVER_LAST


def test_another_password_is_refused() -> None:
    conversation = example("Pencil")
    conversation.first(FIRST)
    with pytest.raises(Refused):
        conversation.last(LAST)


def test_a_proof_is_good_for_one_conversation_only() -> None:
    conversation = example(nonce=NONCE[:-1] + b"1")
    conversation.first(FIRST)
    with pytest.raises(Refused):
        conversation.last(LAST)


def test_the_server_s_part_of_the_nonce_is_a_new_one_each_time() -> None:
    verifier = Verifier.of(PASSWORD)
    assert len({Conversation(verifier).first(FIRST) for _ in range(100)}) == 100


def test_a_user_who_is_not_there_has_a_salt_that_stays_and_no_password() -> None:
    one, again, other = (Verifier.unmatched(user, b"secret") for user in ("eve", "eve", "mallory"))
    assert one.salt == again.salt != other.salt
    assert len(one.salt) == len(Verifier.of(PASSWORD).salt)
    assert one.iterations == Verifier.of(PASSWORD).iterations
    assert Verifier.unmatched("eve", b"another").salt != one.salt
    conversation = Conversation(one, nonce=NONCE)
    conversation.first(FIRST)
    with pytest.raises(Refused):
        conversation.last(LAST)


def test_a_verifier_does_not_show_its_keys() -> None:
    verifier = Verifier.of(PASSWORD)
    assert repr(verifier.stored_key) not in repr(verifier)
    assert repr(verifier.server_key) not in repr(verifier)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,r=abc,n=user",
        b"n,,n=user,r=",
        b"n,,n=user,r=a b",
        b"n,,n=user,r=\xff\xfe",
        b"n,a=admin,n=user,r=abc",
        b"p=tls-server-end-point,,n=user,r=abc",
        b"n,,m=extension,n=user,r=abc",
        b"\0" * 100,
    ],
)
def test_malformed_first_messages(first: bytes) -> None:
    with pytest.raises(Malformed):
        example().first(first)


@pytest.mark.parametrize(
    "last",
    [
        b"",
        b",",
        UNPROVEN,
        UNPROVEN + b",p=",
        UNPROVEN + b",p=AAAA",
        UNPROVEN + b",p=***",
        UNPROVEN + b",p=d\xff",
        LAST.replace(b"c=biws", b"c=eSws"),
        LAST.replace(b"c=biws", b"x=biws"),
        LAST.replace(b",r=", b",s="),
    ],
)
def test_malformed_last_messages(last: bytes) -> None:
    conversation = example()
    conversation.first(FIRST)
    with pytest.raises(Malformed):
        conversation.last(last)


def test_a_last_message_needs_a_first_one() -> None:
    with pytest.raises(Malformed):
        example().last(LAST)


@pytest.mark.parametrize(
    ("password", "bytes_"),
    [
        ("I\u00adX", b"IX"),  # the examples of RFC 4013, 3
        ("user", b"user"),
        ("USER", b"USER"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("\u0007", b"\x07"),  # forbidden: as it is
        ("\u0627\u0031", "\u0627\u0031".encode()),  # two directions of writing: as it is
        ("a\u00a0b", b"a b"),
        ("", b""),
    ],
)
def test_passwords_are_prepared(password: str, bytes_: bytes) -> None:
    assert prepared(password) == bytes_
