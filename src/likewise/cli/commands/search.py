"""``likewise search``: by text, picture or record."""

from __future__ import annotations

import argparse
from pathlib import Path

from likewise.cli.context import Context, parse_where
from likewise.cli.exits import Exit
from likewise.cli.output import plain
from likewise.cli.wire import results_json
from likewise.errors import InvalidArgument, NotFound
from likewise.records import SearchResult

HELP = "find the records nearest to a text, a picture or another record"

#: Keys of the metadata that are shown before the others as the name of a record without content.
_TITLES = ("title", "name", "caption", "path")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what to look for, in words")
    parser.add_argument("--image", metavar="FILE", help="look for what resembles this picture")
    parser.add_argument("--like", metavar="ID", help="look for what resembles the record with this id")
    parser.add_argument(
        "-c", "--collection", metavar="NAME", help="where to look; by default 'demo', or the only collection there is"
    )
    parser.add_argument(
        "-k", "--top-k", metavar="N", type=int, default=10, help="how many results at most (default: 10)"
    )
    parser.add_argument(
        "--where", metavar="JSON", help="""keep to records that match this filter: '{"price": {"$lt": 20}}'"""
    )
    parser.add_argument("--modality", choices=("text", "image"), help="keep to texts or to pictures")
    parser.add_argument("--min-score", metavar="X", type=float, help="leave out results with a lower score")
    parser.add_argument(
        "--min-similarity", metavar="X", type=float, help="leave out results with a lower similarity (0 to 1)"
    )
    parser.add_argument("--max-distance", metavar="X", type=float, help="leave out results that are farther away")
    parser.add_argument("--exact", action="store_true", help="compare every record instead of asking the index")
    parser.add_argument(
        "--ef-search", metavar="N", type=int, help="how many candidates an HNSW index keeps (1 to 1000)"
    )


def run(context: Context) -> int:
    """Search and print."""
    options = context.options
    given = {"text": options.text, "image": options.image, "like": options.like}
    if sum(value is not None for value in given.values()) != 1:
        raise InvalidArgument("search needs one of: TEXT, --image FILE, --like ID")
    image = None
    if options.image is not None:
        image = Path(options.image)
        if not image.is_file():
            raise NotFound(f"there is no file {options.image!r}")
    where = parse_where(options.where)
    with context.store() as store:
        collection = context.collection(store, options.collection)
        found = collection.search(
            options.text,
            image=image,
            like=options.like,
            target_modality=options.modality,
            top_k=options.top_k,
            where=where,
            max_distance=options.max_distance,
            min_score=options.min_score,
            min_similarity=options.min_similarity,
            exact=options.exact,
            ef_search=options.ef_search,
        )
    query = {key: value for key, value in given.items() if value is not None}
    context.output.document(results_json(collection.name, query, found))
    if not found:
        context.output.note("nothing found")
        return Exit.OK
    mixed = any(r.record.modality == "image" for r in found)
    columns = ["#", "similarity", *(["kind"] if mixed else []), "id", "what"]
    rows = [[r.rank, f"{r.similarity:.3f}", *([r.record.modality] if mixed else []), r.id, _what(r)] for r in found]
    context.output.table(columns, rows)
    if not found.complete:
        context.output.note("there may be more: the index was not searched to its end; --exact looks everywhere")
    return Exit.OK


def _what(result: SearchResult) -> str:
    metadata = result.record.metadata
    title = next((plain(metadata[key]) for key in _TITLES if metadata.get(key)), "")
    text = plain(result.record.content)
    if title and text and not text.startswith(title):
        text = f"{title}: {text}"
    return plain(text or title or dict(metadata) or None, width=160)
