"""The messages of PostgreSQL's protocol, version 3.0, as a server reads and writes them. Pure: bytes in, bytes out.

`Message Formats <https://www.postgresql.org/docs/18/protocol-message-formats.html>`_ is the source. What a statement means is in
:mod:`._statement`, who may log in in :mod:`._scram`, and the sockets are in :mod:`.wire`.

A length that a client names is only compared with a limit; memory is taken for what has come, never for what was announced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ENCODINGS",
    "EXTENDED",
    "NO_TLS",
    "TLS",
    "CancelRequest",
    "EncryptionRequest",
    "FirstMessage",
    "Startup",
    "WireError",
    "authentication_ok",
    "command_complete",
    "empty_query",
    "error_response",
    "frame_length",
    "key_data",
    "negotiate_version",
    "parameter_status",
    "parse_first",
    "parse_query",
    "parse_sasl_first",
    "ready_for_query",
    "sasl_continue",
    "sasl_final",
    "sasl_mechanisms",
    "vector_rows",
]

#: What a client may send in place of a start-up message, and the versions.
_CANCEL, _SSL, _GSS = (1234 << 16) | 5678, (1234 << 16) | 5679, (1234 << 16) | 5680
_MAJOR = 3
_VERSION = _MAJOR << 16
#: The answers to a request for encryption.
TLS, NO_TLS = b"S", b"N"

#: Messages of the extended protocol: after one of them everything is skipped until Sync.
EXTENDED = frozenset(b"PBDECH")

_OID_REAL_ARRAY = 1021
_TEXT_FORMAT = 0

#: PostgreSQL's names of encodings, in small letters, and Python's: what a database can be in. SQL_ASCII says nothing of its bytes.
ENCODINGS: Mapping[str, str] = {
    "utf8": "utf-8",
    "unicode": "utf-8",
    "sql_ascii": "utf-8",
    "euc_cn": "gb2312",
    "euc_jp": "euc_jp",
    "euc_jis_2004": "euc_jis_2004",
    "euc_kr": "euc_kr",
    "big5": "big5",
    "gbk": "gbk",
    "gb18030": "gb18030",
    "sjis": "cp932",
    "koi8r": "koi8_r",
    "koi8u": "koi8_u",
    "latin1": "latin_1",
    "latin2": "iso8859_2",
    "latin3": "iso8859_3",
    "latin4": "iso8859_4",
    "latin5": "iso8859_9",
    "latin6": "iso8859_10",
    "latin7": "iso8859_13",
    "latin8": "iso8859_14",
    "latin9": "iso8859_15",
    "latin10": "iso8859_16",
    "iso_8859_5": "iso8859_5",
    "iso_8859_6": "iso8859_6",
    "iso_8859_7": "iso8859_7",
    "iso_8859_8": "iso8859_8",
    "win866": "cp866",
    "win874": "cp874",
    "win1250": "cp1250",
    "win1251": "cp1251",
    "win1252": "cp1252",
    "win1253": "cp1253",
    "win1254": "cp1254",
    "win1255": "cp1255",
    "win1256": "cp1256",
    "win1257": "cp1257",
    "win1258": "cp1258",
}


class WireError(Exception):
    """An error as a client gets it. After a ``fatal`` one the connection is closed."""

    def __init__(self, sqlstate: str, message: str, *, hint: str = "", fatal: bool = False) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint
        self.fatal = fatal


def _broken(message: str) -> WireError:
    return WireError("08P01", message, fatal=True)


# What comes.


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """The client wants TLS, or GSSAPI."""

    tls: bool


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """The client wants what another connection does to be cancelled."""


@dataclass(frozen=True, slots=True)
class Startup:
    """The client wants to log in. ``minor`` is the minor version, ``unknown`` the protocol's options that we do not know."""

    minor: int
    parameters: Mapping[str, str]
    unknown: Sequence[str]

    @property
    def user(self) -> str:
        """Who the client says it is."""
        return self.parameters.get("user", "")


FirstMessage: TypeAlias = EncryptionRequest | CancelRequest | Startup


def frame_length(length: bytes, most: int) -> int:
    """How many bytes follow the four of a length, which counts itself; ``WireError`` if they are more than ``most``, or none can be."""
    (announced,) = struct.unpack("!i", length)
    if announced < 4:
        raise _broken(f"a message says that it has {announced} bytes")
    if announced - 4 > most:
        raise WireError("54000", f"a message of {announced - 4:,} bytes; at most {most:,} are read here", fatal=True)
    return int(announced - 4)


def parse_first(body: bytes) -> FirstMessage:
    """The first message of a connection, which has no type, without its length."""
    if len(body) < 4:
        raise _broken("the first message is cut short")
    (code,) = struct.unpack_from("!I", body)
    if code in {_SSL, _GSS}:
        if len(body) != 4:
            raise _broken("a request for encryption has a wrong length")
        return EncryptionRequest(tls=code == _SSL)
    if code == _CANCEL:
        return CancelRequest()
    if code >> 16 != _MAJOR:
        raise WireError("0A000", f"protocol {code >> 16}.{code & 0xFFFF} is not understood; 3.0 is", fatal=True)
    parameters = _parameters(body[4:])
    options = sorted(name for name in parameters if name.startswith("_pq_."))
    return Startup(code & 0xFFFF, parameters, options)


def _parameters(body: bytes) -> dict[str, str]:
    parts = body.split(b"\0")
    # name, value, name, value, …, an empty name; then nothing is after its NUL.
    if len(parts) < 2 or len(parts) % 2 or parts[-2:] != [b"", b""] or b"" in parts[:-2:2]:
        raise _broken("the start-up message is malformed")
    try:
        texts = [part.decode() for part in parts[:-2]]
    except UnicodeDecodeError as exc:
        raise _broken("the start-up message is not in UTF-8") from exc
    return dict(zip(texts[::2], texts[1::2], strict=True))


def parse_sasl_first(body: bytes) -> tuple[str, bytes]:
    """SASLInitialResponse: the mechanism that the client chose, and its first message."""
    mechanism, separator, rest = body.partition(b"\0")
    if not separator or len(rest) < 4:
        raise _broken("the first message of SASL is cut short")
    (length,) = struct.unpack_from("!i", rest)
    if length != len(rest) - 4:
        raise _broken("the first message of SASL has another length than it says")
    return mechanism.decode("ascii", "replace"), rest[4:]


def parse_query(body: bytes, codec: str) -> str:
    """The text of a simple query."""
    if body[-1:] != b"\0" or body.count(b"\0") != 1:
        raise _broken("a query does not end with its only NUL")
    try:
        return body[:-1].decode(codec)
    except UnicodeDecodeError as exc:
        raise WireError(
            "22021", f"byte {exc.start} of the statement is not in the encoding of the connection ({codec})"
        ) from exc


# What goes.


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _string(text: str, codec: str = "utf-8") -> bytes:
    """A text with its NUL; what the client's encoding has not becomes a question mark."""
    return text.replace("\0", "?").encode(codec, "replace") + b"\0"


def sasl_mechanisms(mechanisms: Iterable[str]) -> bytes:
    """AuthenticationSASL."""
    return _message(b"R", struct.pack("!I", 10) + b"".join(map(_string, mechanisms)) + b"\0")


def sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue."""
    return _message(b"R", struct.pack("!I", 11) + data)


def sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal."""
    return _message(b"R", struct.pack("!I", 12) + data)


def authentication_ok() -> bytes:
    """AuthenticationOk."""
    return _message(b"R", struct.pack("!I", 0))


def negotiate_version(unknown: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion: we speak 3.0, and know none of these options."""
    return _message(b"v", struct.pack("!II", _VERSION, len(unknown)) + b"".join(map(_string, unknown)))


def parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus."""
    return _message(b"S", _string(name) + _string(value))


def key_data(pid: int, secret: int) -> bytes:
    """BackendKeyData."""
    return _message(b"K", struct.pack("!II", pid, secret))


def ready_for_query() -> bytes:
    """ReadyForQuery; there are no transactions here."""
    return _message(b"Z", b"I")


def empty_query() -> bytes:
    """EmptyQueryResponse."""
    return _message(b"I", b"")


def command_complete(tag: str) -> bytes:
    """CommandComplete."""
    return _message(b"C", _string(tag))


def error_response(error: WireError, codec: str = "utf-8") -> bytes:
    """ErrorResponse."""
    severity = "FATAL" if error.fatal else "ERROR"
    fields = {"S": severity, "V": severity, "C": error.sqlstate, "M": error.message, "H": error.hint}
    return _message(b"E", b"".join(k.encode() + _string(v, codec) for k, v in fields.items() if v) + b"\0")


def vector_rows(vector: NDArray[np.float32]) -> bytes:
    """RowDescription, DataRow and CommandComplete of one row with one column ``vector``, a ``real[]`` in text format.

    Nine digits are enough for every float32 to come back as it was.
    """
    text = _array_format(len(vector)) % tuple(vector.tolist())
    described = (
        struct.pack("!H", 1) + _string("vector") + struct.pack("!IhIhih", 0, 0, _OID_REAL_ARRAY, -1, -1, _TEXT_FORMAT)
    )
    row = struct.pack("!HI", 1, len(text)) + text
    return _message(b"T", described) + _message(b"D", row) + command_complete("EMBED 1")


@lru_cache(maxsize=64)
def _array_format(dimension: int) -> bytes:
    return b"{" + b",".join([b"%.9g"] * dimension) + b"}"
