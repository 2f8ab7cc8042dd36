"""What is said of an index follows from what is known of it: one case for each sentence, and for each silence."""

from __future__ import annotations

import pytest

from likewise import VectorField
from likewise.backends.postgres._advice import Facts, advise, hnsw_size
from likewise.backends.postgres._recall import RecallCurve
from likewise.backends.postgres._table import TableIndex
from likewise.schema import Quantization, Storage

GB = 1 << 30


def hnsw(quantization: Quantization = "none") -> TableIndex:
    operators = {"none": "vector_cosine_ops", "half": "halfvec_cosine_ops", "binary": "bit_hamming_ops"}[quantization]
    definition = "USING hnsw (((vector)::halfvec(384)))" if quantization == "half" else "USING hnsw (vector)"
    options = {"m": "16", "ef_construction": "64"}
    return TableIndex("idx_c_vector_hnsw", "hnsw", operators, definition, True, options, "vector")


def ivfflat(lists: int) -> TableIndex:
    options = {"lists": str(lists)}
    return TableIndex("idx_c_vector_ivfflat", "ivfflat", "vector_cosine_ops", "", True, options, "vector")


def facts(
    rows: float = 50_000,
    *,
    dimension: int = 384,
    storage: Storage = "auto",
    index: TableIndex | None = None,
    size: int | None = None,
    recall: float = 0.99,
    dead: float = 0,
    shared_buffers: int = 4 * GB,
    before: RecallCurve | None = None,
) -> Facts:
    field = VectorField(dimension, storage=storage)
    if index is None:
        return Facts(field, rows, dead, shared_buffers)
    size = hnsw_size(field, rows, index.quantization) if size is None else size
    return Facts(field, rows, dead, shared_buffers, index, size, (recall, 0.002), 100, before)


def curve(mean: float, rows: float = 50_000) -> RecallCurve:
    return RecallCurve("", rows, ((40, mean - 0.05, 0.002), (100, mean, 0.002), (200, mean + 0.001, 0.002)))


def said(known: Facts) -> list[tuple[str, str]]:
    return [(each.status, each.text) for each in advise(known)]


def test_few_rows_need_no_index() -> None:
    assert said(facts(5_000)) == [
        ("note", "no index, and none is needed up to some 20,000 rows: every search compares all of them")
    ]


@pytest.mark.parametrize(
    ("dimension", "words"),
    [
        (384, ["an HNSW index of about 102 MB", "Hnsw(quantization='half') of about 59 MB"]),
        (1_536, ["an HNSW index of about 410 MB", "Hnsw(quantization='half') of about 205 MB"]),
        (3_072, ["an HNSW index of about 410 MB"]),
        (5_000, ["an HNSW index of bits of about 51 MB"]),
    ],
)
def test_many_rows_need_one_and_what_it_would_take_is_said(dimension: int, words: list[str]) -> None:
    ((status, text),) = said(facts(dimension=dimension))
    assert status == "warning"
    assert "compares 50,000 rows" in text
    for word in words:
        assert word in text
    assert text.count(" of about ") == len(words)


def test_a_sound_index_is_not_talked_about() -> None:
    assert said(facts(index=hnsw(), before=curve(0.99))) == []
    assert said(facts(index=hnsw("half"), before=curve(1.0))) == []
    assert said(facts(index=ivfflat(50))) == []


def test_a_recall_that_has_fallen_is_noticed_and_chance_is_not() -> None:
    ((status, text),) = said(facts(index=hnsw(), recall=0.93, before=curve(0.985)))
    assert status == "warning"
    assert "fallen from 0.985 (at 50,000 rows) to 0.930 at ef_search 100" in text
    assert 'REINDEX INDEX CONCURRENTLY "idx_c_vector_hnsw"' in text
    ((_, text),) = said(facts(200_000, index=hnsw(), recall=0.95, before=curve(0.985)))
    assert "recall=" in text
    assert "REINDEX" not in text
    assert said(facts(index=hnsw(), recall=0.97, before=curve(0.985))) == []


def test_a_recall_that_is_too_low_is_said_with_a_cure_for_the_index() -> None:
    for index, cure in ((hnsw(), "larger m"), (hnsw("binary"), "half"), (ivfflat(50), "HNSW")):
        ((status, text),) = said(facts(index=index, recall=0.9))
        assert status == "warning"
        assert "0.900" in text
        assert cure in text


def test_an_index_that_is_larger_than_memory_could_be_smaller() -> None:
    ((status, text),) = said(facts(2_000_000, index=hnsw(), shared_buffers=2 * GB))
    assert status == "note"
    assert "4.1 GB beside shared_buffers of 2.1 GB" in text
    assert "about 2.3 GB" in text
    assert said(facts(2_000_000, index=hnsw("half"), shared_buffers=2 * GB)) == []


def test_room_that_nothing_uses_dead_rows_and_lists_of_another_size() -> None:
    ((_, text),) = said(facts(index=hnsw(), size=200_000_000))
    assert "200 MB, about 102 MB of which" in text
    ((_, text),) = said(facts(index=hnsw(), dead=20_000))
    assert "20,000 dead rows" in text
    ((_, text),) = said(facts(1_000_000, index=ivfflat(50)))
    assert "IvfFlat(lists=1000)" in text


@pytest.mark.parametrize(
    ("dimension", "quantization", "m", "bytes_a_row"),
    [
        # What pgvector 0.8.5 built.
        (64, "none", 16, 570),
        (64, "half", 16, 436),
        (64, "binary", 32, 516),
        (384, "none", 16, 2_049),
        (384, "none", 32, 2_131),
        (384, "half", 16, 1_172),
        (768, "half", 16, 2_050),
        (1_024, "none", 16, 8_194),
        (1_024, "half", 16, 2_733),
        (1_536, "half", 16, 4_100),
        (2_000, "none", 16, 16_389),
        (3_072, "none", 16, 8_200),
        (3_072, "binary", 16, 704),
    ],
)
def test_sizes_are_reckoned_as_they_are_built(
    dimension: int, quantization: Quantization, m: int, bytes_a_row: int
) -> None:
    reckoned = hnsw_size(VectorField(dimension), 10_000, quantization, m) / 10_000
    assert reckoned == pytest.approx(bytes_a_row, rel=0.05)
