"""A knowledge base for customer support: articles cut along their headings, found by meaning and by words, answered with citations, and judged by customers.

Run it with ``python examples/support/support.py``. Without more it uses the embedded PostgreSQL and the articles beside it, which are about a firm that
hires out bicycles. ``support.py FOLDER --database URL --ask QUESTION`` takes articles, a database and questions of your own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import likewise
from likewise import CollectionSpec
from likewise.ingest import IngestConfig, ingest
from likewise.ingest.chunking import HeadingsConfig
from likewise.search import Answer, answer

ARTICLES = Path(__file__).with_name("articles")
COLLECTION = "example_support"
#: What customers ask, and whether the answer helped them.
ASKED = (
    ("The rack has no room, where do I leave the bike?", True),
    ("What does the first half hour cost?", True),
    ("Somebody has stolen the bicycle that I had hired", True),
    ("I cannot log in any more", False),
    ("Do you sell second-hand bicycles?", False),
)
#: A number that means nothing to a model; words find it.
CODE = "E17"

FEEDBACK = """
create table if not exists example_support_feedback (
    asked_at timestamptz not null default now(),
    question text not null,
    record_id text,
    helpful boolean not null
)
"""
#: Articles by how often they helped; what nothing answered is where an article is missing.
REPORT = """
select coalesce(d.title, '(nothing found)') as article, count(*) filter (where f.helpful) as helped, count(*) filter (where not f.helpful) as not_helped
from example_support_feedback as f
left join likewise.vector_metadata as m on m.record_id = f.record_id and m.collection = 'example_support'
left join likewise.documents as d on d.id = m.document_id
group by article
order by not_helped desc, helped desc, article
"""
#: Meaning and words at once, in SQL. The worker in this program embeds the query.
HYBRID = "select content_id, score, keyword_rank from likewise.hybrid_search(%s, 3, 'example_support')"


def show(found: Answer) -> None:
    """Print an answer, and where it is from."""
    print(f"\n{found.question}\n  {found.text}")
    for citation in found.citations:
        print(f"  [{citation.number}] {citation.source}: {' > '.join(citation.headings) or citation.title}")


def report(connection: Any) -> None:
    """Print what customers made of the answers."""
    print("\nfeedback")
    for article, helped, not_helped in connection.execute(REPORT):
        print(f"  {article}: helped {helped}, did not {not_helped}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Ingest the articles, search and answer, and keep what customers say of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ARTICLES, help="the articles (default: those beside)")
    parser.add_argument("--database", metavar="URL", help="the database (default: the embedded one)")
    parser.add_argument("--ask", metavar="QUESTION", action="append", help="a question; may be given again")
    options = parser.parse_args(arguments)

    # The worker answers embed() of SQL, which hybrid_search calls.
    with likewise.connect(options.database, worker=True) as store:
        articles = store.ensure_collection(CollectionSpec(COLLECTION, embedder="mini"))
        config = IngestConfig(HeadingsConfig(size=100, prefix=True))
        done = ingest(articles, [options.folder], base=options.folder, config=config, prune=True)
        print(f"{done.stored} articles stored, {done.unchanged} unchanged, {articles.count()} passages")

        print(f"\nby meaning: {CODE}")
        for result in articles.search(CODE, top_k=3):
            print(f"  {result.similarity:.2f}  {result.id}")
        print(f"by meaning and words: {CODE}")
        with store.transaction() as connection:
            for record_id, score, words in connection.execute(HYBRID, [CODE]):
                print(f"  {score:.2f}  {record_id}{'  has the word' if words else ''}")

        asked = [(question, True) for question in options.ask] if options.ask else ASKED
        with store.transaction() as connection:
            connection.execute(FEEDBACK)
        for question, helpful in asked:
            found = answer(articles, question, most_sentences=2)
            show(found)
            # A table of our own beside Likewise's: whatever joins in SQL, joins.
            first = found.citations[0].record_id if found.citations else None
            with store.transaction() as connection:
                connection.execute(
                    "insert into example_support_feedback (question, record_id, helpful) values (%s, %s, %s)",
                    [question, first, helpful and found.found],
                )
        with store.transaction() as connection:
            report(connection)


if __name__ == "__main__":
    main()
