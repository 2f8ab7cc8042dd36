"""Anybody who may connect to the database may write messages for the workers. Nothing that they write stops one."""

from __future__ import annotations

import json
import signal
import subprocess
import uuid
from typing import Any

import numpy as np
import psycopg

from likewise.embedding import HashingEmbedder
from worker.conftest import process, says, wait_until
from worker.test_messages import NO_IDENTITIES

Client = psycopg.Connection[Any]


def request(**changed: Any) -> bytes:
    """A request for ``hashing:16``, with what is not as ``likewise.ask`` writes it."""
    whole = {"request": str(uuid.uuid4()), "kind": "text", "input": "x", "model": "hashing:16", "within": 600}
    return json.dumps({"identity": None, **whole, **changed}).encode()


#: What is no request or note of use.
MALFORMED = [
    ("likewise.embed", b""), ("likewise.embed", b"\xff\xfe\x00"), ("likewise.embed", b"null"), ("likewise.embed", b"[" * 100_000),
    ("likewise.embed", request(within=10**400)), ("likewise.embed", request(within=True)), ("likewise.embed", request(kind=["text"])),
    ("likewise.embed", request(input="\ud800")), ("likewise.embed", request(input="a\0b")), ("likewise.embed", request(model="\udfff")),
    ("likewise.embed", request(model="a\0b")), ("likewise.embed", request(request=3)),
    *(("likewise.embed", request(identity=identity)) for identity in NO_IDENTITIES),
    ("likewise.used", b"{}"), ("likewise.used", json.dumps({"model": "\ud800", "query": "00" * 32}).encode()),
    ("likewise.used", json.dumps({"model": "a\0b", "query": "00" * 32}).encode()),
]  # fmt: skip
#: What could be one, of a kind that nobody would send.
STRANGE = [
    ("likewise.embed", request(model="no such model 😀")),
    ("likewise.embed", request(model="")),
    ("likewise.embed", request(identity=["hashing", "x" * 9_000, 2**31 - 1, "€" * 3_000])),
    ("likewise.embed", request(kind="image", input="AAAA", identity=["", "", 1, "", "image"])),
    ("likewise.used", json.dumps({"model": "nobody's", "query": "00" * 32}).encode()),
    ("likewise.changed", b"\xff\0"),
    ("likewise.other", b"\xff\0"),
]


def send(client: Client) -> None:
    """Write every one of them into the log."""
    for prefix, content in MALFORMED + STRANGE:
        client.execute("select pg_logical_emit_message(false, %s, %s::bytea)", [prefix, content])


def counts(running: subprocess.Popen[str]) -> dict[str, float]:
    """Stop a worker; what it says that it has done."""
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 0
    assert "Traceback" not in err
    found: dict[str, float] = json.loads(out)["counts"]
    return found


def test_neither_who_answers_nor_who_takes_over_is_stopped(url: str, client: Client) -> None:
    with process(url, "--model", "hashing:16") as first:
        says(first, "answering")
        with process(url, "--model", "hashing:16", "--json") as second:
            seen = "select count(*) from likewise.worker"
            wait_until(lambda: client.execute(seen).fetchone() == (2,))
            send(client)
            assert embedded(client, "with the first one")
            # The first one is stopped: what is sent now is open when the second one takes over.
            first.send_signal(signal.SIGSTOP)
            send(client)
            first.kill()
            assert embedded(client, "with the second one")
            done = counts(second)
    assert done["took_over"] == 1
    assert done["reconnected"] == 0
    assert done["malformed"] == 2 * len(MALFORMED)


def embedded(client: Client, text: str) -> bool:
    """Whether the answer is what the model makes of the text."""
    row = client.execute("select likewise.embed(%s, 'hashing:16')::real[]", [text]).fetchone()
    assert row is not None
    return np.allclose(row[0], HashingEmbedder(16).embed_queries([text])[0])
