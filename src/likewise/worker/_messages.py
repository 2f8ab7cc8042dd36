"""What is read from the replication stream and what is sent back, as bytes; and the requests in it. Pure.

The layouts are those of PostgreSQL's documentation, "Streaming Replication Protocol" and "Logical Replication Message Formats".
"""

from __future__ import annotations

import base64
import json
import struct
import time
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast
from uuid import UUID

from likewise.errors import InvalidArgument

__all__ = ["Keepalive", "Kind", "LogMessage", "Request", "Used", "feedback", "read_frame", "read_request", "read_used"]

Kind: TypeAlias = Literal["text", "image"]

#: What the SQL functions let through, so that what is longer was not sent by them.
MOST_BYTES: dict[Kind, int] = {"text": 1_000_000, "image": 20_000_000}
MOST_SECONDS = 3_600.0
#: Of a model's name, its revision and its prompt, each.
_MOST_NAME_BYTES = 10_000
#: Of a whole message: the largest picture in base64 is less.
_MOST_MESSAGE_BYTES = 32_000_000
_LARGEST_INT = 2**31 - 1
_FEEDBACK = struct.Struct(">cQQQqB")
#: PostgreSQL counts microseconds from the beginning of the year 2000.
_EPOCH = 946_684_800


@dataclass(frozen=True, slots=True)
class LogMessage:
    """One message that was written into the log, and where the log stands after it."""

    end: int
    prefix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The server says how far its log is, and may want an answer at once."""

    end: int
    wants_reply: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What one caller wants embedded. ``identity``: which model it has to be, if the caller knows; ``within``: the seconds it waits."""

    number: UUID
    kind: Kind
    input: str | bytes
    model: str
    identity: tuple[str, str, int, str] | None
    within: float


@dataclass(frozen=True, slots=True)
class Used:
    """Something remembered was used: the key of its row."""

    model: str
    query: bytes


def read_frame(data: bytes) -> LogMessage | Keepalive | None:
    """One message of the stream; None for what is of no interest here: changes of tables, beginnings and ends of transactions."""
    if data[:1] == b"k":
        (end,) = struct.unpack_from(">Q", data, 1)
        return Keepalive(end, data[17] == 1)
    if data[:1] != b"w" or data[25:26] != b"M":
        return None
    start, end = struct.unpack_from(">QQ", data, 1)
    prefix, _, rest = data[35:].partition(b"\0")
    (length,) = struct.unpack_from(">I", rest)
    return LogMessage(max(start, end), prefix.decode("utf-8", "replace"), rest[4 : 4 + length])


def feedback(end: int) -> bytes:
    """How far the log has been read, so that the server need not keep it."""
    now = int((time.time() - _EPOCH) * 1_000_000)
    return _FEEDBACK.pack(b"r", end, end, end, now, 0)


def read_request(content: bytes) -> Request:
    """The request in a message; ``InvalidArgument`` for what the function ``likewise.ask`` cannot have written.

    Anybody who may connect to the database may write such messages. What is returned can be stored in PostgreSQL: no text in it has a NUL
    or half of a surrogate pair.
    """
    found = _read_object(content)
    try:
        kind, given, model = found["kind"], found["input"], found["model"]
        if kind not in MOST_BYTES or not isinstance(given, str):
            raise InvalidArgument("a request with a kind or an input of the wrong type")
        kind = cast("Kind", kind)
        value = base64.b64decode(given) if kind == "image" else _checked_text(given, "an input", MOST_BYTES[kind])
        if len(value) > MOST_BYTES[kind]:
            raise InvalidArgument(f"a request with an input of more than {MOST_BYTES[kind]:,} bytes")
        _checked_text(model, "a model", _MOST_NAME_BYTES)
        identity = _read_identity(found["identity"])
        within = found["within"]
        # A number of hundreds of digits is an int that no float holds, but it can be compared.
        if isinstance(within, bool) or not isinstance(within, int | float) or not 0 < within <= MOST_SECONDS:
            raise InvalidArgument(f"a request within no number of seconds up to {MOST_SECONDS:,.0f}")
        number = UUID(found["request"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"a message that is no request: {type(error).__name__}") from error
    return Request(number, kind, value, model, identity, float(within))


def read_used(content: bytes) -> Used:
    """The note that something remembered was used; ``InvalidArgument`` for anything else."""
    found = _read_object(content)
    try:
        model = _checked_text(found["model"], "a model", 5 * _MOST_NAME_BYTES)
        query = bytes.fromhex(found["query"])
        if len(query) != 32:
            raise InvalidArgument("a note of use with a digest that is none")
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"a message that is no note of use: {type(error).__name__}") from error
    return Used(model, query)


def _read_object(content: bytes) -> dict[str, Any]:
    if len(content) > _MOST_MESSAGE_BYTES:
        raise InvalidArgument(f"a message of more than {_MOST_MESSAGE_BYTES:,} bytes")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"a message that is not JSON: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise InvalidArgument(f"a message with a {type(found).__name__} for an object")
    return found


def _read_identity(value: object) -> tuple[str, str, int, str] | None:
    """Which model it has to be; of pictures, in whose key there is a fifth word, without that."""
    match value:
        case None:
            return None
        case [str() as name, str() as revision, int() as dimension, str() as prompt, *rest] if (
            rest in ([], ["image"]) and not isinstance(dimension, bool) and 0 < dimension <= _LARGEST_INT
        ):
            for text in (name, revision, prompt):
                _checked_text(text, "an identity", _MOST_NAME_BYTES)
            return name, revision, dimension, prompt
        case _:
            raise InvalidArgument("a request with an identity that is none")


def _checked_text(value: object, what: str, most: int) -> str:
    """The text, if PostgreSQL can store it and it has no more than ``most`` bytes."""
    if not isinstance(value, str):
        raise InvalidArgument(f"a message with {what} that is no text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"a message with {what} that has half of a surrogate pair") from error
    if "\0" in value:
        raise InvalidArgument(f"a message with {what} that has a NUL")
    if size > most:
        raise InvalidArgument(f"a message with {what} of more than {most:,} bytes")
    return value
