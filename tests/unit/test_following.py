"""What the log says, byte by byte, and what is made of it; no server."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from likewise import CollectionSpec, SchemaMismatch
from likewise.abc.feeds import Change, Cleared, Commit, Gone, Position, Put, Rows
from likewise.backends.postgres.following._held import Held, Layout, RowsReader, check_holds, held_columns
from likewise.backends.postgres.following._pgoutput import (
    UNCHANGED,
    Begin,
    Column,
    Delete,
    End,
    Insert,
    Message,
    Noted,
    Relation,
    Text,
    Truncate,
    Update,
    decode,
)
from likewise.backends.postgres.following._positions import log_place, log_position, snapshot_in, snapshot_reached
from likewise.backends.postgres.following._transactions import Transactions
from likewise.backends.postgres.following.stream import Data, Keepalive, read, status
from likewise.errors import BackendError, InvalidArgument
from likewise.schema import VectorField

#: A value of a row as a test writes it: bytes in binary, None, "u" for what is unchanged, or ("t", text).
Given = bytes | None | str | tuple[str, bytes]


def values(*given: Given) -> bytes:
    """The part of a message that is a row."""
    parts = [struct.pack(">H", len(given))]
    for value in given:
        match value:
            case None:
                parts.append(b"n")
            case str():
                parts.append(value.encode())
            case bytes():
                parts.append(b"b" + struct.pack(">I", len(value)) + value)
            case (kind, text):
                parts.append(kind.encode() + struct.pack(">I", len(text)) + text)
    return b"".join(parts)


def number(n: int) -> bytes:
    return struct.pack(">I", n)


def begin(commit: int = 900) -> bytes:
    return b"B" + struct.pack(">QqI", commit, 0, 7)


def end(place: int = 1000, commit: int = 900) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, commit, place, 0)


def column(name: str, type_: int, modifier: int = -1, *, key: bool = False) -> bytes:
    return bytes([key]) + name.encode() + b"\0" + struct.pack(">Ii", type_, modifier)


def relation(oid: int, *columns: bytes, schema: bytes = b"public") -> bytes:
    return b"R" + number(oid) + schema + b"\0things\0d" + struct.pack(">H", len(columns)) + b"".join(columns)


def insert(*row: Given, oid: int = 5) -> bytes:
    return b"I" + number(oid) + b"N" + values(*row)


MESSAGES: list[tuple[bytes, Message | None]] = [
    (begin(), Begin(900, 7)),
    (end(), End(900, 1000)),
    (
        relation(5, column("id", 25, key=True), column("v", 16400, 384)),
        Relation(5, "public", "things", "d", (Column("id", 25, -1, True), Column("v", 16400, 384, False))),
    ),
    (relation(6, schema=b""), Relation(6, "pg_catalog", "things", "d", ())),
    (insert(b"a", None, b""), Insert(5, (b"a", None, b""))),
    (insert("u", ("t", b"12")), Insert(5, (UNCHANGED, Text(b"12")))),
    (b"U" + number(5) + b"N" + values(b"a", "u"), Update(5, (b"a", UNCHANGED))),
    (
        b"U" + number(5) + b"K" + values(b"old", None) + b"N" + values(b"a", b"x"),
        Update(5, (b"a", b"x"), (b"old", None)),
    ),
    (
        b"U" + number(5) + b"O" + values(b"old", b"y") + b"N" + values(b"a", b"x"),
        Update(5, (b"a", b"x"), (b"old", b"y"), whole=True),
    ),
    (b"D" + number(5) + b"K" + values(b"a", None), Delete(5, (b"a", None))),
    (b"D" + number(5) + b"O" + values(b"a", b"x"), Delete(5, (b"a", b"x"), whole=True)),
    (b"T" + struct.pack(">IB", 2, 1) + number(5) + number(6), Truncate((5, 6))),
    (
        b"M" + struct.pack(">BQ", 1, 55) + b"likewise.embed\0" + number(3) + b"abc",
        Noted(True, "likewise.embed", b"abc"),
    ),
    (b"O" + struct.pack(">Q", 1) + b"origin\0", None),
    (b"Y" + number(16400) + b"public\0vector\0", None),
]


@pytest.mark.parametrize(("data", "message"), MESSAGES)
def test_messages(data: bytes, message: Message | None) -> None:
    assert decode(data) == message


@pytest.mark.parametrize("data", [data for data, message in MESSAGES if message is not None])
def test_a_message_that_is_cut_short_or_too_long_is_an_error(data: bytes) -> None:
    for length in range(1, len(data)):
        with pytest.raises(BackendError, match="log"):
            decode(data[:length])
    with pytest.raises(BackendError, match="log"):
        decode(data + b"\0")


def test_flipped_bytes_are_values_or_errors() -> None:
    for data, _ in MESSAGES:
        for at in range(len(data)):
            for bit in (1, 8, 128):
                flipped = bytearray(data)
                flipped[at] ^= bit
                try:
                    decode(bytes(flipped))
                except BackendError as error:
                    assert "log" in str(error)  # noqa: PT017 -- either is right, and nothing else may be raised


def test_what_is_unknown_is_an_error() -> None:
    for data in (b"", b"S\0\0", b"U" + number(5) + b"X" + values(b"a"), b"I" + number(5) + b"N\0\1x"):
        with pytest.raises(BackendError, match="log"):
            decode(data)


def test_frames() -> None:
    assert read(b"w" + struct.pack(">QQq", 1, 2, 3) + b"payload") == Data(b"payload")
    assert read(b"k" + struct.pack(">QqB", 77, 0, 1)) == Keepalive(77, True)
    for data in (b"", b"w", b"k" + bytes(16), b"x" + bytes(40)):
        with pytest.raises(BackendError, match="frame"):
            read(data)
    sent = status(100, 50, reply=True)
    assert struct.unpack(">cQQQ", sent[:25]) == (b"r", 100, 50, 50)
    assert sent[-1] == 1
    assert status(100, 50)[-1] == 0


# --- rows ------------------------------------------------------------------------------------------------------------------------

SPEC = CollectionSpec("things", dimension=2, vectors={"title": VectorField(3, storage="halfvec")})
COLUMNS = [
    {"name": "id", "type": "text", "oid": 25, "modifier": -1},
    {"name": "mine", "type": "int4", "oid": 23, "modifier": -1},
    {"name": "vector", "type": "vector", "oid": 16400, "modifier": 2},
    {"name": "metadata", "type": "jsonb", "oid": 3802, "modifier": -1},
    {"name": "vector_title", "type": "halfvec", "oid": 16401, "modifier": 3},
    {"name": "content", "type": "text", "oid": 25, "modifier": -1},
]
THINGS = relation(5, *(column(str(c["name"]), int(str(c["oid"])), int(str(c["modifier"]))) for c in COLUMNS))


@pytest.fixture
def held() -> Held:
    return held_columns(SPEC, frozenset({"content", "metadata"}), COLUMNS)


def vector(*numbers: float, half: bool = False) -> bytes:
    return struct.pack(">HH", len(numbers), 0) + np.array(numbers, ">f2" if half else ">f4").tobytes()


def told(layout: Layout, data: bytes) -> Change:
    message = decode(data)
    assert isinstance(message, Insert | Update | Delete)
    return layout.change(message)


def same(
    put: Change,
    id_: str,
    vectors: dict[str, Sequence[float] | None],
    payload: dict[str, object],
    was: str | None = None,
) -> None:
    assert isinstance(put, Put)
    assert {n: None if v is None else v.tolist() for n, v in put.vectors.items()} == vectors
    assert all(v is None or v.dtype == np.float32 for v in put.vectors.values())
    assert (put.id, put.payload, put.was) == (id_, payload, was)


def test_rows_become_changes(held: Held) -> None:
    described = decode(THINGS)
    assert isinstance(described, Relation)
    layout = Layout(held, described)
    row = ("ä".encode(), b"\0\0\0\1", vector(1, 2), b"\1{}", vector(1, 2, 3, half=True), None)
    same(told(layout, insert(*row)), "ä", {"": [1, 2], "title": [1, 2, 3]}, {"metadata": b"{}", "content": None})
    update = b"U" + number(5) + b"N" + values(b"a", None, "u", b'\1{"n": 1}', None, "u")
    same(told(layout, update), "a", {"title": None}, {"metadata": b'{"n": 1}'})
    moved = b"U" + number(5) + b"K" + values(b"old", *[None] * 5) + b"N" + values(b"a", None, "u", "u", "u", b"text")
    same(told(layout, moved), "a", {}, {"content": b"text"}, was="old")
    large = b"U" + number(5) + b"K" + values(b"long", *[None] * 5) + b"N" + values("u", None, "u", "u", "u", "u")
    same(told(layout, large), "long", {}, {})
    whole = b"U" + number(5) + b"O" + values(b"a", *[None] * 5) + b"N" + values(b"a", None, "u", "u", "u", "u")
    same(told(layout, whole), "a", {}, {})
    assert told(layout, b"D" + number(5) + b"K" + values(b"a", *[None] * 5)) == Gone("a")


@pytest.mark.parametrize(
    "row",
    [
        (None, None, vector(1, 2), b"\1{}", None, None),
        ("u", None, vector(1, 2), b"\1{}", None, None),
        (b"a", None, vector(1, 2, 3), b"\1{}", None, None),
        (b"a", None, ("t", b"[1,2]"), b"\1{}", None, None),
        (b"a", None, vector(1, 2), b"\1{}", vector(1, 2, half=True), None),
        (b"a", None, b"\0", b"\1{}", None, None),
        (b"a", None, vector(1, 2), b"\1{}", None),
        (b"\xff", None, vector(1, 2), b"\1{}", None, None),
    ],
)
def test_rows_that_cannot_be(held: Held, row: tuple[Given, ...]) -> None:
    described = decode(THINGS)
    assert isinstance(described, Relation)
    with pytest.raises(BackendError):
        told(Layout(held, described), insert(*row))


def test_a_table_that_is_another(held: Held) -> None:
    altered = THINGS.replace(column("vector", 16400, 2), column("vector", 16400, 3))
    renamed = THINGS.replace(column("content", 25), column("contend", 25))
    for data in (altered, renamed):
        described = decode(data)
        assert isinstance(described, Relation)
        with pytest.raises(SchemaMismatch, match="column"):
            Layout(held, described)
    for other in ({"type": "varchar"}, {"name": "ident"}):
        with pytest.raises(SchemaMismatch, match="'id'"):
            held_columns(SPEC, frozenset(), [{**COLUMNS[0], **other}, *COLUMNS[1:]])
    with pytest.raises(InvalidArgument, match="modality"):
        check_holds(SPEC, frozenset({"modality"}))


def copied(*rows: tuple[bytes | None, ...]) -> bytes:
    """Rows in the binary format of COPY."""
    data = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for row in rows:
        data += struct.pack(">h", len(row))
        for value in row:
            data += b"\xff\xff\xff\xff" if value is None else number(len(value)) + value
    return data + b"\xff\xff"


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_a_copy_in_pieces_of_any_size(held: Held, size: int) -> None:
    data = copied(
        (b"a", vector(1, 2), None, b"\1{}", b"text"),
        (b"", vector(3, 4), vector(0.5, 2, -1, half=True), b'\1{"n": 1}', None),
        (b"c", vector(5, 6), None, b"\1[]", b""),
    )
    reader = RowsReader(held)
    found: list[Rows] = []
    for at in range(0, len(data), size):
        assert not reader.ended
        if (rows := reader.read(data[at : at + size])) is not None:
            found.append(rows)
    assert reader.ended
    assert [i for rows in found for i in rows.ids] == ["a", "", "c"]
    assert np.concatenate([rows.vectors[""] for rows in found]).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert np.concatenate([rows.vectors["title"] for rows in found]).tolist() == [[0, 0, 0], [0.5, 2, -1], [0, 0, 0]]
    there = [rows.present.get("title", np.ones(len(rows.ids), np.bool_)) for rows in found]
    assert np.concatenate(there).tolist() == [False, True, False]
    assert all("" not in rows.present for rows in found)
    assert [x for rows in found for x in rows.payload["metadata"]] == [b"{}", b'{"n": 1}', b"[]"]
    assert [x for rows in found for x in rows.payload["content"]] == [b"text", None, b""]


def test_a_copy_that_is_none(held: Held) -> None:
    with pytest.raises(BackendError, match="format"):
        RowsReader(held).read(b"id,vector,metadata\n" * 3)
    with pytest.raises(BackendError, match="columns"):
        RowsReader(held).read(copied((b"a",)))
    with pytest.raises(BackendError, match="dimension"):
        RowsReader(held).read(copied((b"a", vector(1, 2, 3), None, b"\1{}", None)))
    with pytest.raises(BackendError, match="dimension"):
        one, two = vector(1), vector(1, 2, 3)
        RowsReader(held).read(copied((b"a", one, None, b"\1{}", None), (b"b", two, None, b"\1{}", None)))


# --- transactions and positions -----------------------------------------------------------------------------------------------------


def a_row(id_: bytes) -> bytes:
    return insert(id_, None, vector(1, 2), b"\1{}", None, None)


def run(transactions: Transactions, *messages: bytes) -> list[Commit]:
    commits = [transactions.take(Data(message)) for message in messages]
    return [commit for commit in commits if commit is not None]


def identities(commit: Commit) -> list[str]:
    return ["" if isinstance(change, Cleared) else change.id for change in commit.changes]


def test_commits_are_whole_and_positions_move_on(held: Held) -> None:
    transactions = Transactions(held, 5, 100)
    assert run(transactions, begin(), THINGS, a_row(b"a")) == []
    assert transactions.take(Keepalive(950, True)) is None
    assert transactions.read == 100, "in the midst of a transaction nothing is behind us"
    (commit,) = run(transactions, a_row(b"b"), end(1000))
    assert (identities(commit), commit.position, transactions.read) == (["a", "b"], "0/3E8", 1000)
    assert run(transactions, begin(), end(1100)) == []
    assert transactions.read == 1100
    transactions.take(Keepalive(1200, False))
    transactions.take(Keepalive(1150, False))
    assert transactions.read == 1200
    other = relation(6, column("id", 25))
    assert (
        run(transactions, begin(), other, insert(b"x", oid=6), b"T" + struct.pack(">IB", 1, 0) + number(6), end(1300))
        == []
    )
    (commit,) = run(
        transactions, begin(), b"T" + struct.pack(">IB", 2, 0) + number(6) + number(5), a_row(b"c"), end(1400)
    )
    assert identities(commit) == ["", "c"]


def test_a_log_that_makes_no_sense(held: Held) -> None:
    with pytest.raises(BackendError, match="no transaction"):
        run(Transactions(held, 5, 0), THINGS, a_row(b"a"))
    with pytest.raises(BackendError, match="not described"):
        run(Transactions(held, 5, 0), begin(), a_row(b"a"))


def test_a_large_transaction_is_the_same_from_a_file(held: Held) -> None:
    wider = relation(
        5, *(column(str(c["name"]), int(str(c["oid"])), int(str(c["modifier"]))) for c in COLUMNS), column("more", 23)
    )
    longer = insert(b"wide", None, vector(3, 4), b"\1{}", None, b"text", b"\0\0\0\1")
    empty = b"T" + struct.pack(">IB", 1, 0) + number(5)
    messages = [begin(), THINGS, *(a_row(b"r%d" % n) for n in range(50)), empty, wider, longer, longer, end()]
    (small,) = run(Transactions(held, 5, 0), *messages)
    (large,) = run(Transactions(held, 5, 0, in_memory=500), *messages)
    assert isinstance(small.changes, list)
    assert not isinstance(large.changes, list)
    assert len(large.changes) == 53
    assert repr(list(large.changes)) == repr(small.changes) == repr(list(large.changes))
    assert repr(large.changes[-1]) == repr(small.changes[-1])
    assert repr(large.changes[48:53:2]) == repr(small.changes[48:53:2])
    with pytest.raises(IndexError):
        large.changes[53]
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(len(list(large.changes)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [53] * 4


def test_positions() -> None:
    assert log_place(Position("16/B374D848")) == 0x16B374D848
    assert log_position(0x16B374D848) == "16/B374D848"
    assert log_place(Position("0/16B3748;723:730:725")) == 0x16B3748
    assert snapshot_in(Position("0/16B3748;723:730:725,727")).running == {725, 727}
    assert snapshot_in(Position("723:730:")).most == 730
    for bad in ("", "x", "0/", "/1", "0/zz", "1:2:3", "FFFFFFFFF/0"):
        with pytest.raises(InvalidArgument, match="no position in the log"):
            log_place(Position(bad))
    for bad in ("", "x", "0/1", "1:2", "a:b:c", "1:2:x"):
        with pytest.raises(InvalidArgument, match="no snapshot"):
            snapshot_in(Position(bad))


@pytest.mark.parametrize(
    ("has", "wanted", "reached"),
    [
        ("10:20:", "10:20:", True),
        ("10:20:", "10:15:12", True),
        ("10:20:12", "10:20:12", True),
        ("10:20:12", "10:20:", False),
        ("10:20:12", "10:12:", True),
        ("10:20:", "10:21:", False),
        ("10:20:", "10:22:20,21", True),
        ("10:20:15", "10:22:15,20,21", True),
        ("10:20:15", "10:22:20,21", False),
        ("10:20:15", "10:22:15,20", False),
    ],
)
def test_one_snapshot_sees_what_another_saw(has: str, wanted: str, reached: bool) -> None:
    assert snapshot_reached(snapshot_in(Position(has)), snapshot_in(Position(wanted))) is reached
