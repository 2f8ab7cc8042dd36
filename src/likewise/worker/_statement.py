"""What the worker understands as a statement, and how its errors are put in SQL's words. Pure.

There is one statement of our own, ``EMBED {…}``. The rest is what libpq sends by itself: settings, and nothing at all.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

from likewise.errors import (
    BackendConflict,
    BackendTimeout,
    BackendUnavailable,
    BudgetExceeded,
    DimensionMismatch,
    InvalidArgument,
    LikewiseError,
    ModelNotAvailable,
    ModelUnreachable,
    NotFound,
    OptionalDependencyError,
    UnsupportedFeature,
)
from likewise.worker._wire import ENCODINGS, WireError

__all__ = ["Embed", "Nothing", "Setting", "Statement", "WireRequest", "parse_statement", "wire_error"]


@dataclass(frozen=True, slots=True)
class WireRequest:
    """What to embed: a text that searches, or the bytes of a picture's file.

    ``model`` is a model's name, or all that makes it the one it is: name, revision, dimension and the prompt of its queries, as
    ``likewise.abc.models.model_key`` has them. The answer is wanted ``within`` so many seconds.
    """

    input: str | bytes
    model: str | tuple[str, str, int, str]
    within: float
    #: Which model it has to be, where ``model`` is a name and the caller knows.
    identity: tuple[str, str, int, str] | None = None

    @property
    def kind(self) -> Literal["text", "image"]:
        """What ``input`` is."""
        return "text" if isinstance(self.input, str) else "image"


@dataclass(frozen=True, slots=True)
class Embed:
    """``EMBED {…}``."""

    request: WireRequest


@dataclass(frozen=True, slots=True)
class Setting:
    """``SET name TO value``, of a setting that libpq or an extension sets by itself. Only ``client_encoding`` changes anything."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """The empty statement."""


Statement: TypeAlias = Embed | Setting | Nothing

_EMBED = re.compile(r"embed\s+(\{.*)", re.IGNORECASE | re.DOTALL)
_SET = re.compile(r"set\s+(?:session\s+)?(\w+|time\s+zone)\s*(?:=|\bto\b|\s)\s*('[^'\\]*'|[\w.-]+)", re.IGNORECASE)
#: Settings that may be set because a vector reads the same under any of their values.
_WITHOUT_EFFECT = frozenset({"application_name", "datestyle", "extra_float_digits", "intervalstyle", "timezone"})
_KEYS = frozenset({"kind", "input", "model", "within"})


def parse_statement(text: str, *, most_seconds: float) -> Statement:
    """The statement of a simple query; ``WireError`` for anything else. ``within`` is at most ``most_seconds``."""
    text = text.strip(" \t\r\n;")
    if not text:
        return Nothing()
    if match := _EMBED.fullmatch(text):
        return Embed(_request(match[1], most_seconds))
    if match := _SET.fullmatch(text):
        return _setting(re.sub(r"\s+", "", match[1]).lower(), match[2].strip("'"))
    raise WireError(
        "42601" if text[:5].lower() == "embed" else "0A000",
        f"this is a worker of Likewise, not a database: it cannot do {_shortened(text)}",
        hint='It understands EMBED {"kind": "text", "input": "…", "model": "…", "within": 10}, which likewise.embed sends.',
    )


def _shortened(text: str) -> str:
    line = " ".join(text[:200].split())
    return repr(line if len(line) <= 40 else line[:40] + "…")


def _setting(name: str, value: str) -> Setting:
    if name == "client_encoding":
        if value.lower() not in ENCODINGS:
            raise WireError(
                "22023",
                f"the encoding {value!r} is not known here",
                hint="The worker reads UTF8 and what a database can be in.",
            )
    elif name not in _WITHOUT_EFFECT:
        raise WireError("0A000", f"this is a worker of Likewise, not a database: it has no setting {name!r}")
    return Setting(name, value)


def _request(text: str, most_seconds: float) -> WireRequest:
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise WireError("42601", f"what follows EMBED is not JSON: {exc}") from exc
    assert isinstance(data, dict)  # the text begins with a brace
    if unknown := sorted(data.keys() - _KEYS - {"identity"}):
        raise _wrong(f"EMBED does not know {unknown[0]!r}; it takes {', '.join(sorted(_KEYS))}")
    if missing := sorted(_KEYS - data.keys()):
        raise _wrong(f"EMBED lacks {missing[0]!r}")
    identity = None if data.get("identity") is None else _model(data["identity"])
    if isinstance(identity, str):
        raise _wrong("the identity of EMBED is a list of name, revision, dimension and query prompt")
    return WireRequest(_input(data), _model(data["model"]), _within(data["within"], most_seconds), identity)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _wrong(message: str) -> WireError:
    return WireError("22023", message)


def _input(data: Mapping[str, Any]) -> str | bytes:
    value = data["input"]
    if not isinstance(value, str):
        raise _wrong("the input of EMBED is a text, or a picture's file in base64")
    match data["kind"]:
        case "text":
            try:
                value.encode()
            except UnicodeEncodeError as exc:
                raise _wrong(f"character {exc.start} of the text is half of a surrogate pair") from exc
            return value
        case "image":
            try:
                return base64.b64decode(value.replace("\n", ""), validate=True)
            except ValueError as exc:  # binascii.Error is one, and there is another for characters beyond ASCII
                raise _wrong("the picture is not in base64: send encode(picture, 'base64')") from exc
        case kind:
            raise _wrong(f"the kind of EMBED is {_shortened(str(kind))}; it is text or image")


def _model(value: object) -> str | tuple[str, str, int, str]:
    match value:
        case str() if value:
            return value
        case [str() as name, str() as revision, int() as dimension, str() as prompt] if (
            name and not isinstance(dimension, bool) and dimension > 0
        ):
            return name, revision, dimension, prompt
        case _:
            raise _wrong("the model of EMBED is its name, or a list of name, revision, dimension and query prompt")


def _within(value: object, most_seconds: float) -> float:
    # A number of hundreds of digits is an int that no float holds.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise _wrong("within is the number of seconds to wait, more than 0")
    return float(min(value, most_seconds))


#: SQLSTATE and hint of each error that embedding can end with; the first that fits. Not class 08, which is for the connection itself.
_ERRORS: tuple[tuple[type[LikewiseError], str, str], ...] = (
    (DimensionMismatch, "22000", ""),
    (InvalidArgument, "22023", ""),
    (BudgetExceeded, "LW006", "The budget is that of the worker: it is set where the worker is started."),
    (ModelUnreachable, "LW006", "Try it again: the model's own server did not answer the worker."),
    (
        ModelNotAvailable,
        "LW005",
        "The model is loaded by the worker: run `likewise models list` where the worker runs.",
    ),
    (OptionalDependencyError, "LW005", "It is to be installed where the worker runs."),
    (UnsupportedFeature, "0A000", ""),
    (NotFound, "LW005", ""),
    (BackendTimeout, "LW002", "Set likewise.embed_timeout to more, or ask for less at a time."),
    (BackendConflict, "40001", "Try it again."),
    (BackendUnavailable, "LW006", "The worker has lost its own connection to the database: try it again."),
)


def wire_error(error: BaseException, *, within: float) -> WireError:
    """What a client is told of an error of embedding. Of one that is not Likewise's own only the kind is told: its text may hold anything."""
    for kind, sqlstate, hint in _ERRORS:
        if isinstance(error, kind):
            return WireError(sqlstate, str(error), hint=hint)
    match error:
        case TimeoutError():
            return WireError(
                "LW002",
                f"the worker found no answer within {within:.3g} s",
                hint="Set likewise.embed_timeout to more: the first call after the worker's start also loads the model.",
            )
        case LikewiseError():
            return WireError("LW006", str(error))
        case _:
            return WireError(
                "LW006", f"the model failed ({type(error).__name__})", hint="The worker's log has the details."
            )
