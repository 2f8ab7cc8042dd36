"""What is read from the replication stream: frames as the server's documentation lays them out, and requests of anybody's making."""

from __future__ import annotations

import base64
import json
import struct
import uuid
from typing import Any

import pytest

from likewise.errors import InvalidArgument
from likewise.worker._messages import Keepalive, LogMessage, feedback, read_frame, read_request, read_used
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


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff", b"[]", b"3", b"[" * 100_000, request(kind="video"), request(input=3), request(model=None),
        request(within=0), request(within=-1), request(within="soon"), request(within=1e300), request(within=float("nan")),
        request(request="none"), request(request=None), request(identity="mini"), request(identity=[]), request(kind="image", input="€"),
        request(input="x" * 1_000_001), request(kind=["text"]),
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
    ],
)
def test_what_is_no_note_of_use_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_used(content)


def test_the_counts_as_prometheus_reads_them() -> None:
    text = exposition({**WorkerCounts(answered=3, waiting=2).as_dict(), "leads": 1.0})
    assert "# TYPE likewise_worker_answered_total counter\nlikewise_worker_answered_total 3\n" in text
    assert "# TYPE likewise_worker_waiting gauge\nlikewise_worker_waiting 2\n" in text
    assert text.endswith("likewise_worker_leads 1\n")
