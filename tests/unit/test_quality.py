"""The measures that benchmarks judge rankings by, against numbers worked out by hand."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_quality", BENCHMARKS / "_quality.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


quality = _load()


def test_ndcg_of_an_example_worked_out_by_hand() -> None:
    # Found: gains 3, 2, 3, 0, 1, 2. DCG = 3/1 + 2/1.58496 + 3/2 + 0 + 1/2.58496 + 2/2.80735 = 6.86113.
    # Best, of all seven judged: 3, 3, 3, 2, 2, 2, 1. At 6: 3 + 1.89279 + 1.5 + 0.86135 + 0.77371 + 0.71241 = 8.74026.
    gains = {"a": 3.0, "b": 2.0, "c": 3.0, "d": 0.0, "e": 1.0, "f": 2.0, "g": 3.0, "h": 2.0}
    assert quality.ndcg("abcdef", gains, k=6) == pytest.approx(6.86113 / 8.74026, abs=1e-5)


@pytest.mark.parametrize(
    ("ranked", "relevant", "expected"),
    [
        ("a", "a", 1.0),
        ("xa", "a", 0.63093),  # 1 / log2(3)
        ("xxxxxxxxxa", "a", 0.28906),  # 1 / log2(11)
        ("xxxxxxxxxxa", "a", 0.0),  # the eleventh
        ("ab", "ab", 1.0),
        ("ba", "ab", 1.0),
        ("axb", "ab", 0.91972),  # 1.5 / 1.63093
        ("a", "abc", 0.46928),  # 1 / 2.13093
    ],
)
def test_ndcg_at_10_of_relevant_or_not(ranked: str, relevant: str, expected: float) -> None:
    documents = [f"{each}{place}" if each == "x" else each for place, each in enumerate(ranked)]
    assert quality.ndcg(documents, dict.fromkeys(relevant, 1.0)) == pytest.approx(expected, abs=1e-5)


def test_ndcg_of_nonsense_is_refused() -> None:
    for ranked, gains, complaint in (("a", {}, "nothing is relevant"), ("aa", {"a": 1.0}, "twice")):
        with pytest.raises(ValueError, match=complaint):
            quality.ndcg(ranked, gains)


def test_recall_is_of_queries_with_a_relevant_one_among_the_first() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.9], [0.1, 0.2, 0.3]], np.float32)
    relevant = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], bool)
    assert quality.recalls(scores, relevant, (1, 2, 3)) == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert quality.top(np.array([[1.0, 2.0, 2.0]], np.float32), 2).tolist() == [[1, 2]], "the first of equal ones"


def test_the_data_are_read_as_they_are_laid_out(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text('image,caption\nb.jpg,"A dog, wet ."\na.jpg,A cat .\nb.jpg,Two\n')
    data = quality.captioned(tmp_path)
    assert [path.name for path in data.images] == ["b.jpg", "a.jpg"]
    assert data.captions == ["A dog, wet .", "A cat .", "Two"]
    assert data.of.tolist() == [0, 1, 0]
    for name, rows in {
        "corpus.jsonl": [{"_id": "1", "title": "T", "text": "x"}, {"_id": "2", "title": "", "text": "y"}],
        "queries.jsonl": [{"_id": "q", "text": "?"}, {"_id": "unused", "text": "!"}],
    }.items():
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t2\t1\nq\t1\t0\n")
    found = quality.text_set(tmp_path)
    assert (found.documents, found.queries, found.gains) == ({"1": "T x", "2": "y"}, {"q": "?"}, {"q": {"2": 1.0}})
