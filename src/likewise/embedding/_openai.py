"""What is said to a server of OpenAI's embeddings protocol, and what its answers mean. Pure: no HTTP client may enter here.

The protocol: https://platform.openai.com/docs/api-reference/embeddings. The headers about limits:
https://platform.openai.com/docs/guides/rate-limits.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from likewise.abc.embedder import ModelCard
from likewise.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "KNOWN_MODELS",
    "Batch",
    "KnownModel",
    "MalformedAnswer",
    "Problem",
    "check_base_url",
    "estimated_tokens",
    "host_of",
    "least_tokens",
    "make_card",
    "plan",
    "read_answer",
    "read_problem",
    "request_body",
    "split_variant",
    "wait_asked",
]


# --- models -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What OpenAI says of a model of its own: numbers in a vector, whether it gives fewer if asked, longest text in tokens."""

    dimension: int
    shortens: bool
    max_tokens: int = 8_192


KNOWN_MODELS: Mapping[str, KnownModel] = {
    "text-embedding-3-large": KnownModel(3_072, shortens=True),
    "text-embedding-3-small": KnownModel(1_536, shortens=True),
    "text-embedding-ada-002": KnownModel(1_536, shortens=False),
}


def split_variant(variant: str) -> tuple[str, int | None]:
    """The model and the dimension of ``text-embedding-3-large@256``; None without an ``@``. ValueError if it cannot be read."""
    model, at, dimension = variant.rpartition("@")
    if not at:
        return variant, None
    if not model or not (dimension.isascii() and dimension.isdecimal()):
        raise ValueError("what follows the @ is a dimension, as in 'openai:text-embedding-3-large@256'")
    return model, int(dimension)


def check_base_url(url: str) -> str:
    """The URL without a slash at its end. ``InvalidArgument`` unless it is http or https, and has no password or query in it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    else:
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            # Not repeated: it may have a secret in it.
            raise InvalidArgument("base_url must have no user, password, query or fragment; a key is given as api_key")
    if not usable or not url.isprintable() or " " in url:
        raise InvalidArgument(f"base_url is {url!r:.80}; it must be like 'https://api.openai.com/v1': http or https")
    return url.rstrip("/")


def make_card(
    model: str,
    dimensions: int | None,
    shorten: bool | None,
    *,
    max_tokens: int | None,
    query_prompt: str,
    passage_prompt: str,
) -> tuple[ModelCard, int | None]:
    """The model's card, and the dimension that the server is to be asked for, None if it is not."""
    known = KNOWN_MODELS.get(model)
    dimension = dimensions if dimensions is not None or known is None else known.dimension
    if dimension is None:
        raise InvalidArgument(
            f"the model {model!r:.80} is not known here; say how many numbers its vectors have: dimensions=768, or "
            f"'openai:{model:.80}@768'; known are: {', '.join(KNOWN_MODELS)}"
        )
    most = 16_000 if known is None else known.dimension
    if not 1 <= dimension <= most:
        raise InvalidArgument(f"the dimension of {model!r:.80} is {dimension}; it must be from 1 to {most:,}")
    other = known is not None and dimension != known.dimension
    if known is not None and other and not known.shortens:
        raise InvalidArgument(f"{model!r} has vectors of dimension {known.dimension} only, not {dimension}")
    card = ModelCard(
        name=f"openai:{model}@{dimension}" if known is None or other else f"openai:{model}",
        dimension=dimension,
        modalities=("text",),
        normalised=known is not None,
        max_tokens=max_tokens if known is None or max_tokens is not None else known.max_tokens,
        licence="the terms of whoever runs the server",
        description=f"{model}, by the embeddings API of OpenAI or of a server with the same protocol",
        notice="Texts are sent to the server, and cost what it charges.",
        query_prompt=query_prompt,
        passage_prompt=passage_prompt,
        overlong="refused",
    )
    return card, dimension if (other if shorten is None else shorten) else None


def host_of(url: str) -> str:
    """The scheme and host of a URL; nothing else of it, since that may be secret."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "another place"
    except ValueError:
        return "another place"


# --- batches ----------------------------------------------------------------------------------------------------------------------

#: No token of OpenAI's encodings stands for more bytes than these.
LONGEST_TOKEN = 128
_DEAR = re.compile(r"[^A-Za-z0-9 ]+")


@dataclass(frozen=True, slots=True)
class Batch:
    """The texts from ``start`` up to ``stop`` of a call, and their tokens as estimated."""

    start: int
    stop: int
    tokens: int

    def halves(self, texts: Sequence[str]) -> Iterator[Batch]:
        """Its two halves; ``texts`` are those of the whole call."""
        middle = (self.start + self.stop) // 2
        for start, stop in ((self.start, middle), (middle, self.stop)):
            yield Batch(start, stop, sum(map(estimated_tokens, texts[start:stop])))


def least_tokens(text: str) -> int:
    """Tokens that the text has in any case: a token never reaches over two words, nor over more than 128 bytes."""
    return max(1, len(text.split()), len(text.encode("utf-8")) // LONGEST_TOKEN)


def estimated_tokens(text: str) -> int:
    """Tokens of the text, estimated high: half a token for each ASCII letter, digit and space, one for each byte of the rest.

    OpenAI's encodings take about a quarter of a token for a letter of English, and never more than one for a byte.
    """
    size = len(text.encode("utf-8"))
    cheap = len(_DEAR.sub("", text))
    return size - cheap // 2


def plan(texts: Sequence[str], *, max_texts: int, max_tokens: int) -> list[Batch]:
    """Batches in the order of the texts, none with more texts or estimated tokens than given, but for one text that alone has more."""
    batches: list[Batch] = []
    start = total = 0
    for place, text in enumerate(texts):
        tokens = estimated_tokens(text)
        if place > start and (place - start == max_texts or total + tokens > max_tokens):
            batches.append(Batch(start, place, total))
            start, total = place, 0
        total += tokens
    if texts:
        batches.append(Batch(start, len(texts), total))
    return batches


def request_body(model: str, texts: Sequence[str], *, dimensions: int | None) -> bytes:
    """The JSON of a request; ``dimensions`` is left out where it is None."""
    body: dict[str, object] = {"model": model, "input": list(texts), "encoding_format": "base64"}
    if dimensions is not None:
        body["dimensions"] = dimensions
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


# --- answers ----------------------------------------------------------------------------------------------------------------------


class MalformedAnswer(Exception):
    """An answer that is not what the protocol says; ``row`` is the text of the request that it is about, where it is about one."""

    def __init__(self, message: str, *, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


def read_answer(body: bytes, *, count: int, dimension: int) -> tuple[NDArray[np.float32], int | None]:
    """The vectors, float32 of shape (count, dimension) in the order of the texts, and the tokens used, None if it does not say."""
    import numpy as np

    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer("it is not JSON; is the base_url that of an API?") from error
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        raise MalformedAnswer("it has no list 'data'; is the base_url that of an API?")
    if len(data) != count:
        raise MalformedAnswer(f"it has {len(data)} vectors for {count} texts")
    result = np.empty((count, dimension), np.float32)
    seen: set[int] = set()
    for place, item in enumerate(data):
        if not isinstance(item, dict):
            raise MalformedAnswer("an item of 'data' is not an object")
        index = item.get("index", place)
        if type(index) is not int or not 0 <= index < count or index in seen:
            raise MalformedAnswer(f"its vectors are not numbered from 0 to {count - 1}")
        seen.add(index)
        vector = _vector(item.get("embedding"), index)
        if len(vector) != dimension:
            raise MalformedAnswer(
                f"the vector has {len(vector)} numbers, the model's card says {dimension}; if {len(vector)} is right, say so: "
                "dimensions=… of OpenAIEmbedder, or @… at the end of the model's name",
                row=index,
            )
        result[index] = vector
    finite = np.isfinite(result).all(axis=1)
    if not finite.all():
        raise MalformedAnswer("the vector has numbers that are not finite", row=int(np.argmin(finite)))
    return result, _tokens(answer.get("usage"))


def _vector(value: object, row: int) -> NDArray[np.float32]:
    import numpy as np

    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32, copy=False)
        numbers = np.asarray(value)
        if not isinstance(value, list) or numbers.ndim != 1 or (value and numbers.dtype.kind not in "iuf"):
            raise MalformedAnswer("the vector is neither a list of numbers nor base64", row=row)
        with np.errstate(over="ignore"):
            return numbers.astype(np.float32)
    except ValueError as error:
        raise MalformedAnswer(f"the vector cannot be read: {error}", row=row) from error


def _tokens(usage: object) -> int | None:
    if isinstance(usage, dict):
        for key in ("total_tokens", "prompt_tokens"):
            if type(usage.get(key)) is int and usage[key] >= 0:
                return int(usage[key])
    return None


@dataclass(frozen=True, slots=True)
class Problem:
    """What a server says of a request that it refuses. ``message`` is its own, on one line and cut."""

    message: str
    code: str
    param: str

    @property
    def of_settings(self) -> bool:
        """Whether it is about the model or how it is asked, not about a text."""
        return self.param in ("model", "dimensions", "encoding_format") or self.code == "model_not_found"

    @property
    def of_quota(self) -> bool:
        """Whether the account has nothing left, so that waiting does not help."""
        return self.code in ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


def read_problem(body: bytes, *, secret: str = "") -> Problem:
    """Whatever can be read of an error's body; ``secret`` does not come out again."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    found: Any = answer.get("error", answer) if isinstance(answer, dict) else {}
    if not isinstance(found, dict):
        found = {"message": found}
    message = next((found[k] for k in ("message", "detail", "error") if found.get(k)), "")
    text = message if isinstance(message, str) else json.dumps(message)
    if secret:
        text = text.replace(secret, "…")
    text = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    code, kind, param = (v if isinstance(v := found.get(k), str) else "" for k in ("code", "type", "param"))
    return Problem(f"{text[:300]}…" if len(text) > 300 else text, kind if kind == "insufficient_quota" else code, param)


# --- waiting ----------------------------------------------------------------------------------------------------------------------

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def wait_asked(headers: Mapping[str, str], *, tokens: int, now: float) -> float | None:
    """Seconds that the server asks to wait, None if it does not say; ``now`` is the time since the epoch.

    ``Retry-After`` counts first, in seconds or as a date; else the reset of whichever limit, of requests or of tokens, is used up.
    ``headers`` have names in lower case; ``tokens`` are those of the request.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after", "").strip()
    if after:
        seconds = _number(after)
        if seconds is not None:
            return seconds
        from email.utils import parsedate_to_datetime

        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - now)
        except (ValueError, OverflowError):
            pass
    asked: list[float] = []
    for kind, needed in (("requests", 1), ("tokens", tokens)):
        left = _number(headers.get(f"x-ratelimit-remaining-{kind}", ""))
        reset = _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
        if reset is not None and (left is None or left < needed):
            asked.append(reset)
    return max(asked) if asked else None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", text.strip()) else None


def _duration(text: str) -> float | None:
    """The seconds of ``6m0s``, ``20ms``, ``1.5s`` or ``7``; None if it is something else."""
    text = text.strip()
    if _DURATION.fullmatch(text):
        return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
    return _number(text)
