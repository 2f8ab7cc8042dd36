"""The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding. Pure: bytes in, bytes out.

A client proves that it knows the password without sending it, and the server proves the same to the client. What is kept here
(:class:`Verifier`) does not open anything by itself: the password cannot be read from it, only guessed.

A user that does not exist goes through the same messages with a verifier that nobody can match (:meth:`Verifier.unmatched`), so
that neither the messages nor the time tell whether there is such a user.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from dataclasses import dataclass, field

__all__ = ["MECHANISM", "Conversation", "Malformed", "Refused", "Verifier", "prepared"]

MECHANISM = "SCRAM-SHA-256"
#: What RFC 7677 asks for at least, and PostgreSQL's default.
ITERATIONS = 4096
_SALT_BYTES = 16
_NONCE_BYTES = 18
_KEY_BYTES = hashlib.sha256().digest_size


class Malformed(Exception):
    """The client's message is not one of SCRAM-SHA-256."""


class Refused(Exception):
    """The client does not know the password."""


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def prepared(password: str) -> bytes:
    """The password as SASLprep (RFC 4013) has it, in UTF-8; unchanged where SASLprep forbids it, as PostgreSQL and libpq do."""
    # Spaces first: U+200B is both a space and among what is mapped to nothing, and PostgreSQL takes it for a space.
    mapped = "".join(" " if stringprep.in_table_c12(c) else "" if stringprep.in_table_b1(c) else c for c in password)
    text = unicodedata.normalize("NFKC", mapped)
    return (text if _allowed(text) else password).encode("utf-8", "surrogatepass")


def _allowed(text: str) -> bool:
    """Whether SASLprep lets a normalised text pass: no forbidden or unassigned character, and one direction of writing (RFC 3454, 6)."""
    forbidden = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if not text or any(table(c) for c in text for table in forbidden):
        return False
    if not any(stringprep.in_table_d1(c) for c in text):
        return True
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends and not any(stringprep.in_table_d2(c) for c in text)


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps of a password (RFC 5802, 3): enough to check a proof, not enough to make one."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> Verifier:
        """The verifier of a password, with a salt of its own unless one is given."""
        salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
        salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
        stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
        return cls(salt, iterations, stored_key, _hmac(salted, b"Server Key"))

    @classmethod
    def unmatched(cls, user: str, secret: bytes) -> Verifier:
        """One that no password matches; its salt is always the same for a user, as a real one's is. ``secret`` is the server's own."""
        salt = _hmac(secret, user.encode("utf-8", "surrogatepass"))[:_SALT_BYTES]
        return cls(salt, ITERATIONS, secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(_KEY_BYTES))


class Conversation:
    """One login: :meth:`first`, then :meth:`last`. It is used once. ``nonce`` is the server's own part, and never comes again."""

    __slots__ = ("_client_first_bare", "_header", "_nonce", "_own_nonce", "_server_first", "_verifier")

    def __init__(self, verifier: Verifier, *, nonce: bytes | None = None) -> None:
        self._verifier = verifier
        self._own_nonce = base64.b64encode(secrets.token_bytes(_NONCE_BYTES)) if nonce is None else nonce
        self._header = self._client_first_bare = self._nonce = self._server_first = b""

    def first(self, message: bytes) -> bytes:
        """The answer to the client's first message: nonce, salt and iterations.

        Raises ``Malformed`` for anything but ``n,,`` or ``y,,`` and the attributes n, r: channel binding is not offered, and the
        user's name is that of the start-up message.
        """
        flag, authorisation, bare = _split(message, 3)
        if flag not in {b"n", b"y"}:
            raise Malformed("channel binding was not offered")
        if authorisation:
            raise Malformed("an authorisation identity is not supported")
        attributes = bare.split(b",")
        if len(attributes) < 2:
            raise Malformed("the first message has no nonce")
        _value(attributes[0], b"n")
        client_nonce = _value(attributes[1], b"r")
        if not client_nonce or not all(0x21 <= byte <= 0x7E for byte in client_nonce):
            raise Malformed("the nonce is empty or not printable")
        self._header = message[: len(message) - len(bare)]
        self._client_first_bare = bare
        self._nonce = client_nonce + self._own_nonce
        salt = base64.b64encode(self._verifier.salt)
        self._server_first = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._verifier.iterations)
        return self._server_first

    def last(self, message: bytes) -> bytes:
        """The answer to the client's last message: the server's own proof.

        Raises ``Malformed``, or ``Refused`` where the proof is not that of the password for this conversation.
        """
        unproven, separator, proof_attribute = message.rpartition(b",")
        binding, _, rest = unproven.partition(b",")
        if not separator or not self._server_first:
            raise Malformed("the last message has no proof")
        if _decoded(_value(binding, b"c")) != self._header:
            raise Malformed("the last message repeats another header than the first one had")
        nonce = _value(rest.partition(b",")[0], b"r")
        proof = _decoded(_value(proof_attribute, b"p"))
        if len(proof) != _KEY_BYTES:
            raise Malformed("the proof has another length than SHA-256 gives")
        signed = b",".join((self._client_first_bare, self._server_first, unproven))
        signature = _hmac(self._verifier.stored_key, signed)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        proven = hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key)
        if not (hmac.compare_digest(nonce, self._nonce) and proven):
            raise Refused
        return b"v=" + base64.b64encode(_hmac(self._verifier.server_key, signed))


def _split(message: bytes, parts: int) -> list[bytes]:
    found = message.split(b",", parts - 1)
    if len(found) != parts:
        raise Malformed("the first message is cut short")
    return found


def _value(attribute: bytes, name: bytes) -> bytes:
    if not attribute.startswith(name + b"="):
        raise Malformed(f"the attribute {name.decode()} is missing or out of place")
    return attribute[len(name) + 1 :]


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise Malformed("an attribute is not in base64") from exc
