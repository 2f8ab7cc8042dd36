"""``likewise collections``: list, create, describe, drop, stats."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from likewise.abc.stores import Collection
from likewise.abc.vector_stores import VectorStore
from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.cli.wire import collection_json
from likewise.errors import InvalidArgument
from likewise.metrics import Metric
from likewise.schema import CollectionSpec, EnsureMode, Gin, Hnsw, IvfFlat, Storage

HELP = "list, create, describe or drop collections"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    actions.add_parser("list", help="list the collections (the default)", description="List the collections.")
    create = actions.add_parser(
        "create",
        help="create a collection",
        description="Create a collection; if it is there already it has to be what is asked for.",
    )
    create.add_argument("name", metavar="NAME", help="its name: letters, digits and underscores")
    create.add_argument(
        "--embedder", metavar="MODEL", help="the model that embeds its texts and pictures, such as 'mini'"
    )
    create.add_argument("--dimension", metavar="N", type=int, help="the dimension of your own vectors, without a model")
    create.add_argument(
        "--metric",
        choices=[str(m) for m in Metric],
        default="cosine",
        help="how vectors are compared (default: cosine)",
    )
    create.add_argument(
        "--storage",
        choices=get_args(Storage),
        default="auto",
        help="full or half precision (default: by the dimension)",
    )
    create.add_argument(
        "--mode",
        choices=get_args(EnsureMode),
        default="strict",
        help="what to do with an existing table that lacks optional columns: fail, or add them (default: strict)",
    )
    create.add_argument(
        "--index",
        choices=("none", "hnsw", "ivfflat"),
        default="hnsw",
        help="the vector index to build, with one on the metadata (default: hnsw)",
    )
    describe = actions.add_parser("describe", help="show one collection", description="Show one collection.")
    describe.add_argument("name", metavar="NAME", help="the collection")
    drop = actions.add_parser(
        "drop", help="delete a collection", description="Delete a collection and all its records."
    )
    drop.add_argument("name", metavar="NAME", help="the collection")
    drop.add_argument("--yes", action="store_true", help="really do it, without a question")
    drop.add_argument("--missing-ok", action="store_true", help="it is no error if there is no such collection")
    stats = actions.add_parser(
        "stats",
        help="count records and measure the index's recall",
        description="Count records and measure the recall of the vector index against exact search.",
    )
    stats.add_argument("name", metavar="NAME", nargs="?", help="the collection; all of them without a name")
    stats.add_argument(
        "-k", metavar="N", type=int, default=10, help="measure recall at this many results (default: 10)"
    )
    stats.add_argument(
        "--sample", metavar="N", type=int, default=100, help="measure on this many records (default: 100)"
    )


def run(context: Context) -> int:
    """Do what the action says."""
    action = context.options.action or "list"
    if action == "drop":
        _confirm(context)
    with context.store() as store:
        return {"list": _list, "create": _create, "describe": _describe, "drop": _drop, "stats": _stats}[action](
            context, store
        )


def _list(context: Context, store: VectorStore) -> int:
    documents = [_document(store.collection(spec.name)) for spec in store.collections()]
    context.output.document({"collections": documents})
    if not documents:
        context.output.note("no collections yet: `likewise demo` makes one, `likewise ingest PATH -c NAME` another")
        return Exit.OK
    context.output.table(
        ["name", "records", "vectors", "embedder", "indexes"],
        [[d["name"], d["records"], _vectors(d), d["embedder"], _indexes(d)] for d in documents],
    )
    return Exit.OK


def _create(context: Context, store: VectorStore) -> int:
    options = context.options
    collection = store.ensure_collection(
        CollectionSpec(
            options.name,
            dimension=options.dimension,
            metric=options.metric,
            mode=options.mode,
            embedder=options.embedder,
            storage=options.storage,
        )
    )
    supported = store.capabilities.vector_indexes
    if options.index in supported:
        vector = Hnsw() if options.index == "hnsw" else IvfFlat()
        metadata = Gin() if store.capabilities.metadata_indexes else None
        with context.output.building() as progress:
            collection.ensure_indexes(vector=vector, metadata=metadata, progress=progress)
    return _show(context, collection)


def _describe(context: Context, store: VectorStore) -> int:
    return _show(context, store.collection(context.options.name))


def _show(context: Context, collection: Collection) -> int:
    document = _document(collection)
    context.output.document(document)
    context.output.table(
        ["property", "value"],
        [
            ["name", document["name"]],
            ["records", document["records"]],
            ["vectors", _vectors(document)],
            ["embedder", document["embedder"] or "none: vectors are given"],
            ["multimodal", document["multimodal"]],
            ["filters may name", ", ".join(f"${c}" for c in collection.columns) + " and any metadata key"],
            *(["index", f"{i['name']} ({_index(i)})"] for i in document["indexes"]),
        ],
    )
    return Exit.OK


def _drop(context: Context, store: VectorStore) -> int:
    name = context.options.name
    store.drop_collection(name, missing_ok=context.options.missing_ok)
    context.output.document({"dropped": name})
    context.output.line(f"dropped {name}")
    return Exit.OK


def _confirm(context: Context) -> None:
    options = context.options
    if options.yes:
        return
    if context.output.is_terminal:
        question = f"Delete collection {options.name!r} and all its records? [y/N] "
        try:
            answer = context.output.console.input(question, markup=False)
        except EOFError:
            answer = ""
        if answer.strip().lower() in {"y", "yes"}:
            return
        raise InvalidArgument("nothing was deleted")
    raise InvalidArgument("drop deletes every record; say --yes if that is meant")


def _stats(context: Context, store: VectorStore) -> int:
    options = context.options
    names = [options.name] if options.name else [spec.name for spec in store.collections()]
    documents = []
    for name in names:
        collection = store.collection(name)
        document = _document(collection)
        document["recall"] = _recall(collection, options.k, options.sample) if document["records"] else None
        documents.append(document)
    context.output.document({"collections": documents, "k": options.k, "sample": options.sample})
    context.output.table(
        ["name", "records", "vectors", "indexes", f"recall@{options.k}"],
        [[d["name"], d["records"], _vectors(d), _indexes(d), _recall_text(d["recall"])] for d in documents],
    )
    return Exit.OK


def _recall(collection: Collection, k: int, sample: int) -> dict[str, float]:
    fields = collection.spec.vector_fields
    return {name or "vector": collection.recall(k=k, sample=sample, using=name or None) for name in fields}


def _recall_text(recall: dict[str, float] | None) -> str:
    if recall is None:
        return "-"
    return ", ".join(f"{value:.3f}" if len(recall) == 1 else f"{name} {value:.3f}" for name, value in recall.items())


def _document(collection: Collection) -> dict[str, Any]:
    return collection_json(collection)


def _vectors(document: dict[str, Any]) -> str:
    own = [] if document["dimension"] is None else [f"{document['dimension']} ({document['metric']})"]
    return ", ".join([*own, *(f"{n} {v['dimension']} ({v['metric']})" for n, v in document["vectors"].items())])


def _indexes(document: dict[str, Any]) -> str:
    return ", ".join(_index(i) for i in document["indexes"]) or "none"


def _index(index: dict[str, Any]) -> str:
    quantization = "" if index["quantization"] == "none" else f" {index['quantization']}"
    return f"{index['method']}{quantization}{'' if index['valid'] else ' INVALID'}"
