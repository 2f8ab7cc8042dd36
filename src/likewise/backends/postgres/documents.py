# Generated from src/likewise/backends/postgres/documents_async.py by tools/async_to_sync.py; edit that file instead.
"""The documents of a collection in PostgreSQL: the tables ``likewise.documents`` and ``likewise.vector_metadata``. The SQL is in ``sql/documents``.

A document, its chunks and their records change in one transaction. Records of chunks that are deleted go by a trigger, so that whoever
deletes a document, in SQL or here, deletes all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import Connection
from psycopg.types.json import Jsonb

from likewise._json import dumps
from likewise.abc.blocks import Block
from likewise.abc.digests import StoredVector
from likewise.abc.document_rows import (
    ChunkInfo,
    DocumentInfo,
    DocumentPage,
    DocumentState,
    DocumentStats,
    DocumentVectors,
    KnownDocument,
    NewChunk,
    StoreReport,
    SyncReport,
    Trouble,
    record_of,
)
from likewise.abc.documents import Documents, EmbeddedDocument
from likewise.abc.validation import check_limit
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._rows import stored_vector
from likewise.backends.postgres._statements import Statement
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.borrowed import BorrowedConnection
from likewise.backends.postgres.connection import Database, Row, rows, run
from likewise.backends.postgres.loading import Load, check_claims
from likewise.errors import BackendError, CollectionNotFound, InvalidArgument, SchemaMismatch

if TYPE_CHECKING:
    from likewise.backends.postgres.collection import PostgresCollection

__all__ = ["PostgresDocuments"]

#: Documents in the statistics, and chunks that are looked at together.
_MOST_LISTED, _PAGE = 1_000, 500
#: What names a collection that there must be.
_OF_A_COLLECTION = {"documents_schema_name_collection_fkey", "ingestion_schema_name_collection_fkey"}


class PostgresDocuments(Documents):
    """The documents of one collection."""

    _collection: PostgresCollection

    def __init__(
        self, collection: PostgresCollection, database: Database, *, tenant: str = "", owner: str = ""
    ) -> None:
        super().__init__(collection, tenant=tenant, owner=owner)
        self._database = database

    # --- reading ----------------------------------------------------------------------------------------------------------------

    def scan(
        self,
        *,
        cursor: int | None = None,
        limit: int = 100,
        state: DocumentState | None = None,
        owner: str | None = None,
        tenant: str | None = None,
    ) -> DocumentPage:
        limit = check_limit(limit)
        if state not in (None, "stored", "failed", "duplicate"):
            raise InvalidArgument(f"state is {state!r:.80}; it must be 'stored', 'failed' or 'duplicate'")
        found = self._fetch("list", ids=None, after=cursor, state=state, owner=owner, tenant=tenant, limit=limit + 1)
        documents = [_info(row) for row in found[:limit]]
        return DocumentPage(documents, documents[-1].id if len(found) > limit else None)

    def get_many(self, documents: Iterable[int]) -> list[DocumentInfo]:
        wanted = _ids(documents)
        found = self._fetch("list", ids=wanted, after=None, state=None, owner=None, tenant=None, limit=len(wanted))
        return [_info(row) for row in found]

    def chunks(self, document: int) -> list[ChunkInfo]:
        (wanted,) = _ids([document])
        return [
            ChunkInfo(
                id=row["record_id"],
                chunk_index=row["chunk_index"],
                text=row["text"],
                length=row["chunk_length"],
                faiss_index=row["faiss_index"],
                embedding_model=row["embedding_model"],
                page=row["page"],
                start=row["start_character"],
                end=row["end_character"],
                headings=tuple(row["headings"] or ()),
                created_at=row["created_at"],
            )
            for row in self._fetch("chunks", document=wanted)
        ]

    def stats(self) -> DocumentStats:
        (found,) = self._fetch("stats", limit=_MOST_LISTED)
        listed = [DocumentVectors(*(int(number) for number in numbers)) for numbers in found["per_document"]]
        return DocumentStats(found["total_vectors"], found["total_documents"], listed)

    # --- writing ----------------------------------------------------------------------------------------------------------------

    def delete(self, documents: int | Iterable[int]) -> int:
        wanted = _ids([documents] if isinstance(documents, int) else documents)
        with self._changing() as connection:
            return run(connection, self._statement("delete", ids=wanted))

    def sync(self) -> SyncReport:
        restored = refreshed = 0
        lost: list[str] = []
        incomplete: set[int] = set()
        place = (0, -1)
        while found := self._fetch("missing", document=place[0], chunk=place[1], model=self._model, limit=_PAGE):
            place = (found[-1]["document_id"], found[-1]["chunk_index"])
            pictures = [row for row in found if row["text"] is None]
            lost += [row["record_id"] for row in pictures]
            incomplete.update(row["document_id"] for row in pictures)
            texts = [row for row in found if row["text"] is not None]
            try:
                self._collection.upsert(_record(row) for row in texts)
            finally:
                self.wrote()
            with self._changing() as connection:
                records = [row["record_id"] for row in texts]
                run(connection, self._statement("restored", records=records, model=self._model))
                # What was no chunk any more by the time that it was embedded.
                unclaimed = rows(connection, self._statement("unclaimed", records=records))
            ours = {row["record_id"] for row in texts} - {row["id"] for row in unclaimed}
            texts = [row for row in texts if row["record_id"] in ours]
            restored += sum(row["gone"] for row in texts)
            refreshed += sum(not row["gone"] for row in texts)
        if incomplete:
            with self._database.transaction(collection=self._collection.name) as connection:
                run(connection, self._statement("incomplete", ids=sorted(incomplete)))
        return SyncReport(restored, refreshed, lost)

    def config(self) -> Mapping[str, Any] | None:
        found = self._fetch("config_get")
        return found[0]["config"] if found else None

    def set_config(self, config: Mapping[str, Any]) -> None:
        with self._transaction() as connection:
            run(connection, self._statement("config_put", config=_json(config)))

    # --- ingestion --------------------------------------------------------------------------------------------------------------

    def known(self, sources: Sequence[str]) -> Mapping[str, KnownDocument]:
        found = self._fetch("find", sources=list(sources), tenant=self._tenant)
        return {row["source"]: _known(row) for row in found}

    def copies(self, digests: Sequence[bytes], metadata: Mapping[str, Any]) -> Mapping[bytes, str]:
        found = self._fetch(
            "copies", digests=list(digests), tenant=self._tenant, owner=self._owner, metadata=_json(metadata)
        )
        return {bytes(row["sha256"]): row["source"] for row in found}

    def sources(self, *, after: str | None = None) -> list[str]:
        found = self._fetch("sources", tenant=self._tenant, after=after, limit=_MOST_LISTED)
        return [row["source"] for row in found]

    def orphans(self) -> list[str]:
        return [row["source"] for row in self._fetch("orphans", tenant=self._tenant)]

    def forget(self, sources: Sequence[str]) -> int:
        with self._changing() as connection:
            return run(connection, self._statement("forget", sources=list(sources), tenant=self._tenant))

    def store(self, documents: Sequence[EmbeddedDocument]) -> StoreReport:
        if not documents:
            return StoreReport()
        table = self._collection._table()
        with self._changing() as connection:
            numbers = self._put(connection, documents)
            identifiers = [record_id for one in documents for block in one.blocks for record_id in block.ids]
            stale = self._statement("stale", documents=list(numbers.values()), records=identifiers)
            removed = run(connection, stale)
            load = Load(Database(BorrowedConnection(connection)), table, replace=True)
            written = load.run(_blocks(documents))
            run(connection, self._put_chunks(documents, numbers))
        return StoreReport(written, removed)

    def _put(self, connection: Connection[Any], documents: Sequence[EmbeddedDocument]) -> dict[str, int]:
        """Store the documents' own rows, all in the order of their sources; their ids by source. Then copies are told their originals, which may be among them."""
        some = [one.document for one in documents]
        statement = self._statement(
            "put",
            tenant=self._tenant,
            owner=self._owner,
            model=self._model,
            sources=[d.source for d in some],
            sha256=[d.sha256 for d in some],
            bytes=[d.size for d in some],
            media_types=[d.media_type for d in some],
            titles=[d.title for d in some],
            languages=[d.language for d in some],
            metadata=[_json(d.metadata) for d in some],
            settings=[_json(d.settings) for d in some],
            states=["stored" if d.duplicate_of is None else "duplicate" for d in some],
            chunks=[len(d.chunks) for d in some],
            characters=[d.characters for d in some],
        )
        numbers: dict[str, int] = {row["source"]: row["id"] for row in rows(connection, statement)}
        copies = {numbers[d.source]: d.duplicate_of for d in some if d.duplicate_of is not None}
        if copies:
            wanted = [original for original in copies.values() if original not in numbers]
            originals = numbers | (self._numbers(connection, wanted) if wanted else {})
            told = self._statement(
                "copied", ids=list(copies), originals=[originals.get(original) for original in copies.values()]
            )
            run(connection, told)
        return numbers

    def _numbers(self, connection: Connection[Any], sources: Sequence[str]) -> dict[str, int]:
        found = rows(connection, self._statement("find", sources=list(sources), tenant=self._tenant))
        return {row["source"]: row["id"] for row in found}

    def _put_chunks(self, documents: Sequence[EmbeddedDocument], numbers: Mapping[str, int]) -> Statement:
        chunks = [
            (numbers[one.document.source], n, identifier, chunk)
            for one in documents
            for n, (identifier, chunk) in enumerate(
                zip((i for block in one.blocks for i in block.ids), one.document.chunks, strict=True)
            )
        ]
        made = [chunk for *_, chunk in chunks]
        return self._statement(
            "put_chunks",
            model=self._model,
            documents=[number for number, *_ in chunks],
            indexes=[n for _, n, *_ in chunks],
            records=[identifier for _, _, identifier, _ in chunks],
            texts=[chunk.text for chunk in made],
            hashes=[chunk.content_hash for chunk in made],
            lengths=[len(chunk.text or "") for chunk in made],
            prefixes=[chunk.prefix_length for chunk in made],
            tokens=[chunk.tokens for chunk in made],
            pages=[chunk.page for chunk in made],
            starts=[chunk.start for chunk in made],
            ends=[chunk.end for chunk in made],
            headings=[_json(list(chunk.headings)) for chunk in made],
        )

    def note_trouble(self, troubles: Sequence[Trouble]) -> None:
        with self._transaction() as connection:
            statement = self._statement(
                "fail",
                tenant=self._tenant,
                owner=self._owner,
                sources=[t.source for t in troubles],
                sha256=[t.sha256 for t in troubles],
                bytes=[t.size for t in troubles],
                errors=[_storable(t.reason) for t in troubles],
                stages=[t.stage for t in troubles],
            )
            run(connection, statement)

    def _vectors(self, hashes: Sequence[bytes], ids: Sequence[str]) -> Mapping[bytes, StoredVector]:
        table = self._collection._table()
        if not table.embedded:
            return {}
        element = table.element("")
        found = self._fetch("vectors", hashes=list(hashes))
        return {bytes(row["content_hash"]): stored_vector(row, element) for row in found}

    @contextmanager
    def _changing(self) -> Iterator[Connection[Any]]:
        """A transaction that changes records, of which those who keep a copy hear, even after an error: it may have been committed."""
        check_claims(self._database, self._collection._table())
        try:
            with self._transaction() as connection:
                yield connection
        finally:
            self.wrote()

    @contextmanager
    def _transaction(self) -> Iterator[Connection[Any]]:
        """A transaction. ``CollectionNotFound`` if the collection, of which there must be a row for documents to be stored, was dropped meanwhile."""
        try:
            with self._database.transaction(collection=self._collection.name) as connection:
                yield connection
        except BackendError as error:
            cause = error.__cause__
            if isinstance(cause, psycopg.errors.ForeignKeyViolation) and cause.diag.constraint_name in _OF_A_COLLECTION:
                raise CollectionNotFound(self._collection.name) from error
            raise

    # --- statements -------------------------------------------------------------------------------------------------------------

    @property
    def _model(self) -> str | None:
        return self._collection.spec.embedder

    def _statement(self, name: str, **parameters: Any) -> Statement:
        table = self._collection._table()
        return _statement(table, name, parameters)

    def _fetch(self, name: str, **parameters: Any) -> list[Row]:
        try:
            return self._database.fetch(self._statement(name, **parameters), collection=self._collection.name)
        except CollectionNotFound as error:
            raise SchemaMismatch(
                "this database was set up by an older Likewise, which had no documents: run `likewise install`",
                collection=self._collection.name,
            ) from error


def _statement(table: Table, name: str, parameters: Mapping[str, Any]) -> Statement:
    """The statement in ``sql/documents/<name>.sql`` about the table."""
    text = own_sql(resource(f"documents/{name}.sql")).format(table=table.name)
    return Statement(text, {"schema": table.schema, "collection": table.spec.name, **parameters}, {})


def _blocks(documents: Sequence[EmbeddedDocument]) -> Iterator[Block]:
    for document in documents:
        yield from document.blocks


def _ids(documents: Iterable[int]) -> list[int]:
    wanted = list(documents)
    for one in wanted:
        if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < 2**63:
            raise InvalidArgument(f"{one!r:.80} is no id of a document; one is a whole number")
    return wanted


def _json(value: object) -> Jsonb:
    return Jsonb(value, dumps=dumps)


def _storable(text: str) -> str:
    """The text without what no database stores."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _known(row: Row) -> KnownDocument:
    state: DocumentState = row["state"]
    complete = row["chunks"] == row["present"]
    if state == "duplicate":
        complete = row["original_sha256"] is not None and bytes(row["original_sha256"]) == bytes(row["sha256"])
    elif state == "failed":
        complete = False
    return KnownDocument(
        row["source"],
        bytes(row["sha256"]),
        row["settings"],
        state,
        complete,
        failed=row["error"] is not None,
        picture=(row["media_type"] or "").startswith("image/"),
    )


def _info(row: Row) -> DocumentInfo:
    return DocumentInfo(
        id=row["id"],
        source=row["source"],
        state=row["state"],
        media_type=row["media_type"],
        size=row["bytes"],
        title=row["title"],
        language=row["language"],
        metadata=row["metadata"],
        chunks=row["chunks"],
        characters=row["characters"],
        embedding_model=row["embedding_model"],
        tenant=row["tenant"],
        owner=row["owner"],
        error=row["error"],
        error_stage=row["error_stage"],
        duplicate_of=row["duplicate_of"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _record(row: Row) -> Any:
    """The record of a chunk, of what is stored of it."""
    chunk = NewChunk(
        text=row["text"],
        start=row["start_character"],
        end=row["end_character"],
        prefix_length=row["prefix_length"],
        tokens=row["tokens"],
        page=row["page"],
        headings=tuple(row["headings"] or ()),
    )
    return record_of(chunk, row["record_id"], row["chunk_index"], row["chunks"], row["metadata"])
