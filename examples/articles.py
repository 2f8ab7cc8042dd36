"""Semantic search over articles: a dataclass, its codec, a collection with an embedder, and a filter.

Run it with ``python examples/articles.py``. Without an argument it uses the embedded PostgreSQL; with one, that database:
``python examples/articles.py postgresql://localhost/mydb``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import likewise
from likewise import CollectionSpec, DataclassCodec, Metadata, TypedCollection


@dataclass(frozen=True)
class Article:
    """One article, as this program wants to see it."""

    slug: str
    title: str
    body: str
    topic: str
    year: int
    tags: tuple[str, ...] = ()


ARTICLES = (
    Article(
        "sourdough",
        "Why sourdough needs patience",
        "Wild yeast and bacteria raise the dough over a day. A cool kitchen slows them down, and the bread tastes better for it.",
        "food",
        2021,
        ("bread", "baking"),
    ),
    Article(
        "tomato-sauce",
        "A tomato sauce from three ingredients",
        "Simmer tinned tomatoes with butter and half an onion for three quarters of an hour, then throw the onion away.",
        "food",
        2024,
        ("italian", "dinner"),
    ),
    Article(
        "knife",
        "Keeping a kitchen knife sharp",
        "A whetstone, some water and a steady angle are enough. Ten strokes on each side every week keep the edge.",
        "food",
        2019,
        ("tools",),
    ),
    Article(
        "night-train",
        "Across the Alps by night train",
        "Fall asleep in Vienna and wake up above the lagoon of Venice. A bunk costs less than a hotel room and saves the day.",
        "travel",
        2023,
        ("railway", "italy"),
    ),
    Article(
        "islands",
        "Five quiet islands",
        "Ferries run twice a week, there is one inn, and the beaches are empty until July. Bring a book and cash.",
        "travel",
        2022,
        ("sea", "holiday"),
    ),
    Article(
        "packing",
        "Packing for two weeks in one bag",
        "Wear the heavy shoes, roll the shirts, and leave the second sweater at home. Everything else can be washed in a sink.",
        "travel",
        2018,
        ("luggage",),
    ),
    Article(
        "tides",
        "What the moon does to the sea",
        "The moon pulls the near side of the ocean more than the far side. The earth turns through both bulges, so tides come twice.",
        "science",
        2020,
        ("moon", "ocean"),
    ),
    Article(
        "crows",
        "Crows remember faces",
        "Birds that were caught once scold the same person for years, and teach their young to do so too.",
        "science",
        2024,
        ("birds", "memory"),
    ),
    Article(
        "batteries",
        "Where a battery's charge goes",
        "Heat and high voltage wear out lithium cells. Charged to four fifths and kept cool, they last twice as long.",
        "science",
        2023,
        ("energy",),
    ),
    Article(
        "first-marathon",
        "Training for a first marathon",
        "Run slowly, and often. The longest run grows by a kilometre a week, and every fourth week is for rest.",
        "sport",
        2022,
        ("running",),
    ),
    Article(
        "chess",
        "Losing at chess, usefully",
        "Write down the move at which the plan went wrong. After twenty games the list shows what to practise.",
        "sport",
        2020,
        ("games",),
    ),
    Article(
        "cold-water",
        "Swimming in cold water",
        "Go in slowly, breathe out, and stay for as many minutes as the water has degrees. Warm clothes wait on the shore.",
        "sport",
        2024,
        ("swimming", "winter"),
    ),
)


def text_of(article: Article) -> str:
    """What is embedded: the title and the body, since either may hold the words that matter."""
    return f"{article.title}. {article.body}"


def main(arguments: Sequence[str]) -> None:
    """Store the articles and search them."""
    with likewise.connect(arguments[0] if arguments else None) as store:
        collection = store.ensure_collection(CollectionSpec("articles", embedder="mini"))
        articles = TypedCollection(collection, DataclassCodec(Article, id="slug", content=text_of))
        print(f"{articles.upsert(ARTICLES)} articles stored")

        for question in ("how do I bake bread", "animals that are clever", "a holiday by the sea"):
            print(f"\n{question}")
            for result in articles.search(question, top_k=3):
                print(f"  {result.similarity:.2f}  {result.item.title}")

        print("\nsomething to do outdoors, written in 2022 or later, not about food")
        recent = (Metadata("year") >= 2022) & (Metadata("topic") != "food")
        for result in articles.search("something to do outdoors", top_k=3, where=recent):
            print(f"  {result.similarity:.2f}  {result.item.title} ({result.item.topic}, {result.item.year})")

        print("\nlike 'What the moon does to the sea'")
        for result in articles.search(like="tides", top_k=2):
            print(f"  {result.similarity:.2f}  {result.item.title}")

        collection.ensure_indexes()
        print(f"\nrecall of the index against exact search: {collection.recall(k=5):.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
