"""How often answers cite what answers, as a figure that must not fall. The texts are others'; without them this is skipped."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT.parent / "shared" / "data" / "support"


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("likewise_benchmark_answering", ROOT / "benchmarks" / "answering.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not SUPPORT.is_dir(), reason="the shop's questions and answers are not here")
def test_questions_of_a_shop() -> None:
    measuring = benchmark()
    figures = measuring.measure(measuring.shop(SUPPORT, "mini"), misses=False)
    assert figures["hit@1"] >= 0.75
    assert figures["hit@3"] >= 0.8
    assert figures["answered"] >= 0.85
    assert figures["refused, of other things"] == 1.0
    assert figures["refused, of its own kind"] >= 0.9


def test_there_are_enough_questions_and_none_twice() -> None:
    questions = benchmark().QUESTIONS
    asked = [entry["question"] for kind in ("shop", "help") for entry in questions[kind]]
    asked += [question for kind in ("other", "shop", "help") for question in questions["unanswered"][kind]]
    assert len(set(asked)) == len(asked) == 30 + 30 + 3 * 12
    assert all(entry["answers"] for kind in ("shop", "help") for entry in questions[kind])
