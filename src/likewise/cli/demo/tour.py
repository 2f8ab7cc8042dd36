"""The searches that the demo shows, what they find, and what was measured. Nothing is printed here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from likewise.abc.embedder import Embedder
from likewise.abc.stores import Collection
from likewise.abc.vector_stores import VectorStore
from likewise.cli.demo.build import Built
from likewise.cli.demo.catalog import Catalog
from likewise.records import SearchResults

__all__ = ["Card", "Join", "Measured", "Query", "Tour", "tour"]

_SHOWN = 5
_REPEATS = 60
_SENTENCES = ("a bird with a long neck", "a red fruit", "a fast vehicle")
_LIKE = ("a lion", "a musical instrument")
_FILTERED = ("an animal with stripes", 40)
_JOINED = "a juicy fruit"

STATEMENT = """\
SELECT p.name, p.category, p.price, p.stock, round(s.similarity::numeric, 3) AS similarity
FROM products p
JOIN likewise.find_similar_multimodal(%(query)s::vector, 'image', 0.6, 20, 'demo') s
  ON s.content_id = p.id
WHERE p.in_stock AND p.price < 20
ORDER BY s.similarity DESC"""


@dataclass(frozen=True, slots=True)
class Card:
    """One result as it is shown."""

    id: str
    title: str
    detail: str
    similarity: float
    image: Path | None


@dataclass(frozen=True, slots=True)
class Query:
    """One search: what it is called, how it is written, and what it found. ``asked`` is the picture that was searched with."""

    title: str
    code: str
    cards: Sequence[Card]
    milliseconds: float
    plan: str
    asked: Path | None = None


@dataclass(frozen=True, slots=True)
class Join:
    """The SQL statement, its rows, and the pictures of the rows."""

    text: str
    statement: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    cards: Sequence[Card]
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured here and now, on this machine. Times are milliseconds; the medians are over ``searches`` searches."""

    embed_text: float
    embed_image: float
    search_p50: float
    search_p95: float
    searches: int
    recall: float
    recall_k: int


@dataclass(frozen=True, slots=True)
class Tour:
    """Everything that the demo has to show."""

    built: Built
    server: str
    notice: str
    queries: Sequence[Query]
    join: Join
    measured: Measured
    totals: Mapping[str, int] = field(default_factory=dict)


def tour(store: VectorStore, built: Built, catalog: Catalog) -> Tour:
    """Run the searches and measure."""
    collection = built.collection
    embedder = collection.embedder
    assert embedder is not None
    embedder.embed_texts(["the first sentence waits for the model to be loaded"])
    guide = _Guide(collection, catalog)
    queries = [guide.words(sentence) for sentence in _SENTENCES]
    queries += [guide.picture(words) for words in _LIKE]
    queries.append(guide.filtered(*_FILTERED))
    info = store.info()
    server = f"{info.backend} {info.version}" + (f", pgvector {info.vector_extension}" if info.vector_extension else "")
    return Tour(
        built=built,
        server=server,
        notice=" ".join(embedder.card.notice.split()),
        queries=queries,
        join=_join(store, embedder, guide, _JOINED),
        measured=_measure(collection, embedder, catalog),
    )


class _Guide:
    def __init__(self, collection: Collection, catalog: Catalog) -> None:
        self.collection = collection
        self.catalog = catalog
        self.products = {product.id: product for product in catalog.products}

    def words(self, sentence: str) -> Query:
        started = time.perf_counter()
        found = self.collection.search(sentence, target_modality="image", top_k=_SHOWN)
        return self._query(f"“{sentence}”", f"likewise search {sentence!r} --modality image", found, started)

    def picture(self, words: str) -> Query:
        example = self.collection.search(words, target_modality="image", top_k=1)[0].id
        started = time.perf_counter()
        found = self.collection.search(like=example, target_modality="image", top_k=_SHOWN)
        path = self.catalog.image(example)
        query = self._query(
            "Pictures like this picture", f"likewise search --like {example} --modality image", found, started
        )
        return Query(query.title, query.code, query.cards, query.milliseconds, query.plan, asked=path)

    def filtered(self, sentence: str, price: int) -> Query:
        where = {"price": {"$lt": price}}
        started = time.perf_counter()
        found = self.collection.search(sentence, target_modality="image", top_k=_SHOWN, where=where)
        code = f"""likewise search {sentence!r} --modality image --where '{{"price": {{"$lt": {price}}}}}'"""
        return self._query(f"“{sentence}”, for less than {price}", code, found, started)

    def _query(self, title: str, code: str, found: SearchResults, started: float) -> Query:
        milliseconds = (time.perf_counter() - started) * 1_000
        cards = [self.card(r.id, r.similarity) for r in found]
        return Query(title, code, cards, milliseconds, found.explain().plan)

    def card(self, record_id: str, similarity: float) -> Card:
        product = self.products.get(record_id)
        title = product.name if product is not None else record_id
        detail = "" if product is None else f"{product.category} · {product.price}"
        return Card(record_id, title, detail, similarity, self.catalog.image(record_id))


def _join(store: VectorStore, embedder: Embedder, guide: _Guide, text: str) -> Join:
    statement = STATEMENT
    vector = "[" + ",".join(map(repr, embedder.embed_texts([text])[0].tolist())) + "]"
    ids = statement.replace("SELECT ", "SELECT p.id, ", 1)
    with store.transaction() as connection:
        started = time.perf_counter()
        cursor = connection.execute(ids, {"query": vector})
        rows = cursor.fetchall()
        milliseconds = (time.perf_counter() - started) * 1_000
        columns = [column.name for column in cursor.description][1:]
    cards = [guide.card(row[0], float(row[-1])) for row in rows[:_SHOWN]]
    return Join(text, statement, columns, [row[1:] for row in rows], cards, milliseconds)


def _measure(collection: Collection, embedder: Embedder, catalog: Catalog) -> Measured:
    sentences = [str(photo["caption"]) for photo in catalog.photographs[:_REPEATS]]
    texts = [_milliseconds(lambda s=s: embedder.embed_texts([s])) for s in sentences[:20]]
    paths = [path for photo in catalog.photographs[:10] if (path := catalog.image(str(photo["id"]))) is not None]
    images = [_milliseconds(lambda p=p: embedder.embed_images([p])) for p in paths]
    vectors = embedder.embed_texts(sentences)
    searches = sorted(_milliseconds(lambda v=v: collection.search_by_vector(v, top_k=10)) for v in vectors)
    return Measured(
        embed_text=statistics.median(texts),
        embed_image=statistics.median(images),
        search_p50=statistics.median(searches),
        search_p95=searches[int(0.95 * (len(searches) - 1))],
        searches=len(searches),
        recall=collection.recall(k=10, sample=100),
        recall_k=10,
    )


def _milliseconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1_000
