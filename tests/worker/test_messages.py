"""What is read from the replication stream: frames as the server's documentation lays them out, and requests of anybody's making."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.errors import InvalidArgument
from likewise.worker._messages import (
    Keepalive,
    LogMessage,
    Request,
    Used,
    feedback,
    read_frame,
    read_request,
    read_used,
)
from likewise.worker.lanes import MOST_SAID, Refusal, refusal
from likewise.worker.metrics import WorkerCounts, exposition

NUMBER = uuid.UUID("12345678-1234-5678-1234-567812345678")


def frame(payload: bytes, *, start: int = 16, end: int = 32) -> bytes:
    return b"w" + struct.pack(">QQq", start, end, 0) + payload


def logical(prefix: bytes, content: bytes) -> bytes:
    return b"M\0" + struct.pack(">Q", 16) + prefix + b"\0" + struct.pack(">I", len(content)) + content


def request(**changed: Any) -> bytes:
    fields = {"request": str(NUMBER), "kind": "text", "input": "x", "model": "mini", "identity": None, "within": 5}
    return json.dumps({**fields, **changed}).encode()


def test_messages_and_keepalives_are_read_and_the_rest_is_passed_over() -> None:
    assert read_frame(frame(logical(b"likewise.embed", b"hello"))) == LogMessage(32, "likewise.embed", b"hello")
    assert read_frame(frame(logical(b"", b""), end=0)) == LogMessage(16, "", b"")
    assert read_frame(b"k" + struct.pack(">QqB", 99, 0, 1)) == Keepalive(99, True)
    assert read_frame(b"k" + struct.pack(">QqB", 99, 0, 0)) == Keepalive(99, False)
    for other in (b"B", b"C", b"I", b"R", b"Y"):
        assert read_frame(frame(other + b"\0" * 40)) is None


def test_feedback_confirms_what_was_read() -> None:
    kind, written, flushed, applied, moment, reply = struct.unpack(">cQQQqB", feedback(77))
    assert (kind, written, flushed, applied, reply) == (b"r", 77, 77, 77, 0)
    assert moment > 0


def test_a_request() -> None:
    found = read_request(request(identity=["mini", "1", 384, ""]))
    assert (found.number, found.kind, found.input, found.model, found.within) == (NUMBER, "text", "x", "mini", 5.0)
    assert found.identity == ("mini", "1", 384, "")
    picture = read_request(
        request(kind="image", input=base64.encodebytes(b"\x89PNG" * 40).decode(), identity=["a", "1", 2, "", "image"])
    )
    assert picture.input == b"\x89PNG" * 40
    assert picture.identity == ("a", "1", 2, "")


#: Each wrong in one place of a list that otherwise is one.
NO_IDENTITIES: list[Any] = [
    {}, 3, True, ["mini", "1", 384], ["mini", "1", 384, "", "image", ""], ["mini", "1", 384, "", "text"], ["mini", "1", 384, "", None],
    ["mini", "1", True, ""], ["mini", "1", 384.0, ""], ["mini", "1", "384", ""], ["mini", "1", None, ""], ["mini", "1", 2**31, ""],
    ["mini", "1", 10**400, ""], ["mini", "1", 0, ""], ["mini", "1", -1, ""], [None, "1", 384, ""], ["mini", 1, 384, ""], ["mini", "1", 384, []],
    ["\ud800", "1", 384, ""], ["mini", "\udfff", 384, ""], ["mini", "1", 384, "\ud83d"], ["a\0b", "1", 384, ""], ["mini", "\0", 384, ""],
    ["mini", "1", 384, "\0"], ["m" * 10_001, "1", 384, ""], ["mini", "1", 384, "€" * 3_334], [["mini"], "1", 384, ""],
]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff", b"[]", b"3", b"[" * 100_000, request(kind="video"), request(input=3), request(model=None),
        request(within=0), request(within=-1), request(within="soon"), request(within=1e300), request(within=float("nan")),
        request(request="none"), request(request=None), request(identity="mini"), request(identity=[]), request(kind="image", input="€"),
        request(input="x" * 1_000_001), request(kind=["text"]), b"null", b"true", b'"likewise"', request(within=True), request(within="5"),
        request(within=10**400), request(within=None), request(input="\ud800"), request(input="a\0b"), request(input=None), request(input={}),
        request(model="\udfff"), request(model="a\0b"), request(model=["mini"]), request(model="m" * 10_001), request(request=7), request(request=[]),
        request(kind="image", input="x" * 32_000_000), request(kind="image", input="\ud800"), request(kind={}),
        *(request(identity=identity) for identity in NO_IDENTITIES),
        request(input="\ud800").decode().encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_request(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"model": 1, "query": ""}',
        b'{"model": "m", "query": "00"}',
        b'{"model": "m", "query": "zz"}',
        b"[" * 100_000,
        b"[]",
        b"\xff",
        json.dumps({"model": "\ud800", "query": "00" * 32}).encode(),
        json.dumps({"model": "a\0b", "query": "00" * 32}).encode(),
        json.dumps({"model": "m" * 50_001, "query": "00" * 32}).encode(),
        json.dumps({"model": "m", "query": "00" * 31}).encode(),
        json.dumps({"model": "m", "query": None}).encode(),
    ],
)
def test_what_is_no_note_of_use_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_used(content)


def test_a_note_of_use() -> None:
    assert read_used(json.dumps({"model": "m", "query": "0f" * 32}).encode()) == Used("m", b"\x0f" * 32)


#: Any character at all; halves of surrogate pairs, and NUL, often.
ANY_TEXT = st.text(st.sampled_from("a\0\ud800\udfff€😀") | st.characters(exclude_categories=()), max_size=8)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**308, 10**310) | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(ANY_TEXT, inner, max_size=5),
    max_leaves=10,
)
IDENTITIES = st.tuples(ANY_TEXT, ANY_TEXT, st.integers(-1, 2**32) | st.booleans(), ANY_TEXT) | st.tuples(
    ANY_TEXT, ANY_TEXT, st.integers(1, 9), ANY_TEXT, st.sampled_from(["image", "text"])
)
#: Requests and notes of use with something else in one place.
NEARLY = st.builds(
    lambda place, value: {**json.loads(request(query="00" * 32)), place: value},
    st.sampled_from(["request", "kind", "input", "model", "identity", "within", "query"]),
    ANY_TEXT | IDENTITIES | ANY_JSON,
)


@settings(max_examples=500)
@given(NEARLY | ANY_JSON)
def test_any_json_is_a_request_that_can_be_stored_or_refused(value: Any) -> None:
    for read in (read_request, read_used):
        with contextlib.suppress(InvalidArgument):
            storable(read(json.dumps(value).encode()))


def storable(found: Request | Used) -> None:
    """See that PostgreSQL can be asked for it: every text in it can be encoded, and none has a NUL."""
    if isinstance(found, Request):
        identity = found.identity or ()
        assert all(type(part) is (int if place == 2 else str) for place, part in enumerate(identity))
        assert not identity or 0 < identity[2] < 2**31
        texts = [found.model, *(str(part) for part in identity), *([found.input] if found.kind == "text" else [])]
        assert isinstance(found.input, str if found.kind == "text" else bytes)
        assert 0 < found.within <= 3_600
    else:
        texts = [found.model]
    for text in texts:
        assert isinstance(text, str)
        assert b"\0" not in text.encode()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("half \ud800 and \udfff", "half \\ud800 and \\udfff"),
        ("a\0b", "a\\x00b"),
        ("x" * 3_000, "x" * MOST_SAID),
        ("\ud800" * 3_000, ("\\ud800" * MOST_SAID)[:MOST_SAID]),
        ("Größe 😀", "Größe 😀"),
    ],
)
def test_what_a_caller_is_told_can_be_stored(said: str, told: str) -> None:
    assert refusal(NUMBER, InvalidArgument(said)) == Refusal(NUMBER, "22023", told, None)


def test_the_counts_as_prometheus_reads_them() -> None:
    text = exposition({**WorkerCounts(answered=3, waiting=2).as_dict(), "leads": 1.0})
    assert "# TYPE likewise_worker_answered_total counter\nlikewise_worker_answered_total 3\n" in text
    assert "# TYPE likewise_worker_waiting gauge\nlikewise_worker_waiting 2\n" in text
    assert text.endswith("likewise_worker_leads 1\n")
