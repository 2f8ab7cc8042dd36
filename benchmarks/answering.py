"""How often an answer rests on the right passage, and how often a question without an answer is refused. No chat model; sentences are extracted.

    python benchmarks/answering.py SUPPORT [--model mini] [--only shop] [--misses]

SUPPORT is a folder with ``ecommerce_faq_79.json`` (questions and answers of a shop) and ``bitwarden-help`` (Markdown articles). ``questions.json`` has the
questions, in other words than the texts', and what answers each: the entry's place in the shop's list, or an article; ``/*`` stands for any article of a
folder. Questions without an answer are about other things ("other"), or such as somebody might ask there ("shop", "help").
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import likewise
from likewise import CollectionSpec, Record
from likewise.abc.stores import Collection
from likewise.ingest import IngestConfig, ingest
from likewise.ingest.chunking import HeadingsConfig
from likewise.search import Answer, answer

QUESTIONS = json.loads((Path(__file__).parent / "questions.json").read_text(encoding="utf-8"))


def shop(support: Path, model: str) -> Collection:
    """A record for each question of the shop's list, with its answer; its id is the place in the list."""
    entries = json.loads((support / "ecommerce_faq_79.json").read_text(encoding="utf-8"))["questions"]
    collection = likewise.connect("memory://").ensure_collection(CollectionSpec("shop", embedder=model))
    collection.upsert(
        Record(str(n), content=f"{entry['question']}\n\n{entry['answer']}", metadata={"source": str(n)})
        for n, entry in enumerate(entries)
    )
    return collection


def articles(support: Path, model: str) -> Collection:
    """The help's articles, cut along their headings."""
    folder = support / "bitwarden-help"
    collection = likewise.connect("memory://").ensure_collection(CollectionSpec("help", embedder=model))
    ingest(collection, [folder], base=folder, config=IngestConfig(HeadingsConfig(size=100, prefix=True)))
    return collection


def is_right(source: str | None, answers: Sequence[Any]) -> bool:
    """Whether a citation's source is one that answers."""
    named = [str(one) for one in answers]
    return source is not None and any(
        source == one or (one.endswith("/*") and source.startswith(one[:-1])) for one in named
    )


def measure(collection: Collection, misses: bool) -> dict[str, float]:
    """Shares of the questions of this collection, 0 to 1."""
    asked: list[tuple[Sequence[Any], Answer]] = []
    began = time.perf_counter()
    for entry in QUESTIONS[collection.name]:
        asked.append((entry["answers"], answer(collection, entry["question"])))
    without = {
        kind: [answer(collection, question) for question in QUESTIONS["unanswered"][kind]]
        for kind in ("other", collection.name)
    }
    seconds = (time.perf_counter() - began) / (len(asked) + sum(map(len, without.values())))
    if misses:
        for answers, found in asked:
            if not found.found or not is_right(found.citations[0].source, answers):
                print("  missed:", found.question, "->", found.text[:120])
        for found in (one for many in without.values() for one in many if one.found):
            print("  not refused:", found.question, "->", found.text[:120])
    given = [(answers, found) for answers, found in asked if found.found]

    def hits(most: int) -> float:
        return sum(any(is_right(c.source, a) for c in f.citations[:most]) for a, f in given) / len(asked)

    def refused(kind: str) -> float:
        return sum(not found.found for found in without[kind]) / len(without[kind])

    return {
        "hit@1": hits(1),
        "hit@3": hits(3),
        "answered": len(given) / len(asked),
        "refused, of other things": refused("other"),
        "refused, of its own kind": refused(collection.name),
        "seconds": seconds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("support", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--only", choices=("shop", "help"))
    parser.add_argument("--misses", action="store_true", help="print what went wrong")
    options = parser.parse_args()
    for make in (shop, articles):
        if options.only and options.only != {"shop": "shop", "articles": "help"}[make.__name__]:
            continue
        collection = make(options.support, options.model)
        figures = measure(collection, options.misses)
        print(options.model, collection.name, ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
