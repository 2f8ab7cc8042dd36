"""What is read from the replication stream and what is sent back, as bytes; and the requests in it. Pure.

The layouts are those of PostgreSQL's documentation, "Streaming Replication Protocol" and "Logical Replication Message Formats".
"""

from __future__ import annotations

import base64
import binascii
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
    identity: tuple[Any, ...] | None
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

    Anybody who may connect to the database may write such messages.
    """
    try:
        found = json.loads(content)
        kind, given = found["kind"], found["input"]
        if kind not in MOST_BYTES or not isinstance(given, str) or not isinstance(found["model"], str):
            raise InvalidArgument("a request with a kind, an input or a model of the wrong type")
        kind = cast("Kind", kind)
        value = base64.b64decode(given) if kind == "image" else given
        if len(value if isinstance(value, bytes) else value.encode()) > MOST_BYTES[kind]:
            raise InvalidArgument(f"a request of more than {MOST_BYTES[kind]:,} bytes")
        identity = found["identity"]
        if identity is not None and not (isinstance(identity, list) and 4 <= len(identity) <= 5):
            raise InvalidArgument("a request with an identity that is none")
        within = float(found["within"])
        if not 0 < within <= MOST_SECONDS:
            raise InvalidArgument(f"a request within {within} seconds")
        number = UUID(found["request"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"a message that is no request: {type(error).__name__}") from error
    return Request(number, kind, value, found["model"], None if identity is None else tuple(identity[:4]), within)


def read_used(content: bytes) -> Used:
    """The note that something remembered was used; ``InvalidArgument`` for anything else."""
    try:
        found = json.loads(content)
        model, query = found["model"], bytes.fromhex(found["query"])
        if not isinstance(model, str) or len(query) != 32 or "\0" in model:
            raise InvalidArgument("a note of use with a key that is none")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"a message that is no note of use: {type(error).__name__}") from error
    return Used(model, query)
