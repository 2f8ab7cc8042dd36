# Generated from src/likewise/abc/stores_async.py by tools/async_to_sync.py; edit that file instead.
"""The interface of a collection, as asynchronous code; ``stores.py`` is the generated twin. That of a store is in ``vector_stores``.

A backend implements the abstract methods. What can be said once for all of them (embedding what has no vector, ``search`` by text,
picture or record, ``get`` of one record) is written here, in terms of the abstract methods. No driver enters this module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from likewise.abc.blocks import Block
from likewise.abc.calibrating import Match, fit_to_collection
from likewise.abc.columns import Columns
from likewise.abc.digests import StoredVector
from likewise.abc.embedder import MODALITIES, Embedder, ImageInput, Modality
from likewise.abc.embedding import Embedding, Known
from likewise.abc.feeds import Feed, Payload, Position
from likewise.abc.frames import Frame
from likewise.abc.loading import Part, PartsLoad
from likewise.abc.recent import RecentQueries
from likewise.abc.runs import Run
from likewise.abc.similarities import Similarities, check_calibrated, check_similarity
from likewise.abc.sources import LoadMark, Piece, check_token, pieces
from likewise.abc.validation import Prepared, as_records, check_limit, check_top_k, chunks
from likewise.calibration import PRIOR, Calibration
from likewise.errors import InvalidArgument, InvalidRecord, RecordNotFound, UnsupportedFeature
from likewise.filters import And, Column, Eq, Filter, Not, Where, check_filter
from likewise.records import Include, LoadProgress, LoadReport, Page, Record, SearchResults, VectorInput
from likewise.schema import CollectionSpec, IndexInfo, IndexProgress, MetadataIndex, VectorHealth, VectorIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from likewise.abc.documents import Documents
__all__ = ["Collection", "ColumnOfVectors", "IndexWatch", "Progress", "RecordSource"]

#: Rows in one statement on the ordinary path of writing, and records that are embedded together.
BATCH_ROWS = 500
#: Rows that are checked and sent together: few enough that a server works on some while we make the next.
BLOCK_ROWS = 128

#: What ``insert``, ``upsert`` and ``load`` take.
RecordSource: TypeAlias = "Record | Iterable[Record] | Columns | Frame"
#: Called now and then during a long call, from the thread that makes it.
Progress: TypeAlias = "Callable[[LoadProgress], None]"
#: Called twice a second while an index is built, from a thread of its own in synchronous code.
IndexWatch: TypeAlias = "Callable[[IndexProgress], object]"
#: Vectors of many rows: an array of shape (rows, dimension), or a sequence of vectors.
ColumnOfVectors: TypeAlias = "NDArray[np.floating[Any]] | Sequence[VectorInput]"


class Collection(ABC):
    """Records of one shape, searchable by their vectors. Obtained from a store; holds no connection of its own."""

    def __init__(self, spec: CollectionSpec, *, embedder: Embedder | None) -> None:
        self._spec = spec
        self._embedding = Embedding(embedder, collection=spec.name)
        self._recent = RecentQueries()

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._spec.name

    @property
    def spec(self) -> CollectionSpec:
        """The collection's specification, its embedder's dimension filled in."""
        return self._spec

    @property
    def embedder(self) -> Embedder | None:
        """The model that the collection remembers, if it has one."""
        return self._embedding.embedder

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that filters may name."""
        return ("id", "content", "modality", "content_id") if self._spec.multimodal else ("id", "content")

    # --- writing ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def insert(self, records: RecordSource, *, progress: Progress | None = None) -> int:
        """Store new records, all or none; their number.

        ``RecordExists`` names the ids that are known already or are given twice; ``InvalidRecord`` or ``DimensionMismatch`` the
        first record that cannot be stored. What has no vector is embedded, if the collection has an embedder.

        A table of pyarrow, pandas or polars may be given too. Its columns are ``id``, ``vector`` or ``vector_<name>``, ``content``,
        ``modality``, ``content_id`` and ``metadata``; without a column ``metadata`` every other column is a key of the metadata, and
        values that are missing are left out. ``progress`` is told now and then how far the call is.
        """

    @abstractmethod
    def upsert(self, records: RecordSource, *, progress: Progress | None = None) -> int:
        """Store records, replacing those whose id is known, all or none; the number of ids.

        Of records with the same id in one call the last one stays. Errors as for ``insert``.
        """

    def upsert_columns(
        self,
        *,
        ids: Sequence[str],
        vectors: ColumnOfVectors | Mapping[str, ColumnOfVectors] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        content: Sequence[str | None] | None = None,
        modality: Sequence[Modality | None] | None = None,
        content_id: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """``upsert`` for rows that are given by column: equally long sequences or arrays, a row the same place in each.

        ``vectors`` is an array of shape (rows, dimension), or a mapping from names to such arrays for named vectors (the empty name is the
        collection's own). Arrays of float32 are the quickest; they are checked and sent as a whole. Without ``vectors`` the
        contents are embedded, if the collection has an embedder. Positions in errors are places in the columns.
        """
        own = {} if vectors is None else vectors if isinstance(vectors, Mapping) else {"": vectors}
        return self.upsert(Columns(ids, own, metadata, content, modality, content_id), progress=progress)

    def load(
        self,
        records: RecordSource,
        *,
        replace: bool = True,
        skip_invalid: bool = False,
        token: str | None = None,
        part_rows: int = 50_000,
        progress: Progress | None = None,
    ) -> LoadReport:
        """Store records in parts, each by itself all or nothing: for loads that take long. What was read and stored.

        A part has at most ``part_rows`` records (1 to 100,000), fewer if they are large. ``replace`` replaces known records, as
        ``upsert`` does; without it a known id raises ``RecordExists``, as for ``insert``. With ``skip_invalid`` records that cannot be
        stored are left out and reported, where otherwise the first of them is an error. Whatever is raised, the parts before stay.

        ``token`` is a text of the caller's that names this load. The place that is reached is stored under it with every part, so that
        the same call, made again after it was broken off, goes on there: it passes over what is done, makes sure that this is
        the same input, and loads the rest. Once the input has ended, the token is finished, and the call does nothing any more.
        ``InvalidArgument`` for another input; ``BackendConflict`` if another load goes on with the token at the same time.
        """
        load = PartsLoad(
            self,
            replace=replace,
            skip_invalid=skip_invalid,
            token=None if token is None else check_token(token),
            part_rows=check_limit(part_rows, "part_rows"),
            progress=progress,
        )
        return load.run(records, BATCH_ROWS, BLOCK_ROWS)

    @abstractmethod
    def delete(self, ids: str | Iterable[str] | None = None, *, where: Where = None) -> int:
        """Delete the records with these ids, or those that match the filter; how many there were. Give one of the two."""

    # --- reading ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def get_many(self, ids: Iterable[str], *, include: Include = ("metadata", "content")) -> list[Record]:
        """The records with these ids, each once, in the order of the ids; unknown ids are left out."""

    def get(self, record_id: str, *, include: Include = ("metadata", "content")) -> Record:
        """The record with this id; ``RecordNotFound`` if there is none."""
        if not isinstance(record_id, str):
            raise InvalidArgument(f"an id is text, not {type(record_id).__name__}; get_many takes several")
        for record in self.get_many([record_id], include=include):
            return record
        raise RecordNotFound(record_id, collection=self.name)

    @abstractmethod
    def count(self, where: Where = None) -> int:
        """How many records there are, or match the filter."""

    @abstractmethod
    def scan(
        self,
        where: Where = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        include: Include = ("metadata", "content"),
    ) -> Page:
        """A page of records in the order of their ids by code point; ``page.cursor`` asks for the next, and is None on the last.

        A record that is there during the whole of a listing is listed exactly once, whatever is written meanwhile.
        """

    # --- searching --------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def search_by_vector(
        self,
        vector: VectorInput,
        *,
        top_k: int = 10,
        where: Where = None,
        max_distance: float | None = None,
        min_score: float | None = None,
        using: str | None = None,
        include: Include = ("metadata", "content"),
        exact: bool = False,
        ef_search: int | None = None,
        recall: float | None = None,
    ) -> SearchResults:
        """The ``top_k`` records nearest to the vector, best first.

        Only records that match ``where`` are looked at, and only those at most ``max_distance`` away and with at least ``min_score``
        are returned. The result is shorter than ``top_k`` only if no more records match. ``using`` names the vector of a
        collection that has several; records without it are left out. ``exact`` compares every matching record rather than
        asking an index; ``ef_search`` is HNSW's own dial (1..1,000, more is slower and finds more), ``recall`` says what it is to achieve: the
        part of the exact answer (above 0, up to 1) that the index should find on average, as measured on stored vectors. The first
        search with ``recall`` measures, which takes as long as some 50 exact searches; what was measured is remembered until the
        collection has grown or shrunk by half. Equal distances are ordered by id.

        ``DimensionMismatch``, ``InvalidFilter`` and ``InvalidArgument`` for arguments that cannot work.
        """

    @abstractmethod
    def search_by_vectors(
        self,
        vectors: Mapping[str, VectorInput],
        *,
        weights: Mapping[str, float] | None = None,
        top_k: int = 10,
        where: Where = None,
        min_score: float | None = None,
        include: Include = ("metadata", "content"),
        exact: bool = False,
        ef_search: int | None = None,
    ) -> SearchResults:
        """Search several named vectors at once and fuse the rankings into one.

        Fusion is by reciprocal rank (Cormack, Clarke and Buettcher, 2009): each vector ranks its nearest
        ``max(100, 5 * top_k)`` records, and a record's score is the sum of ``weight / (60 + rank)`` over the rankings it is in,
        divided by the largest possible sum, so that 1 is a record which is first everywhere. ``distance`` is 1 - score. The
        weights are 1 unless given, and must be positive. The empty name is the collection's own vector.
        """

    @abstractmethod
    def search_many(
        self,
        vectors: ColumnOfVectors,
        *,
        top_k: int = 10,
        where: Where = None,
        max_distance: float | None = None,
        min_score: float | None = None,
        using: str | None = None,
        include: Include = ("metadata", "content"),
        exact: bool = False,
        ef_search: int | None = None,
        recall: float | None = None,
    ) -> list[SearchResults]:
        """``search_by_vector`` for each of the vectors, in one round trip where the backend can; results in the order given."""

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageInput | None = None,
        like: str | None = None,
        vector: VectorInput | None = None,
        query_modality: Modality | None = None,
        target_modality: Modality | None = None,
        top_k: int = 10,
        where: Where = None,
        max_distance: float | None = None,
        min_score: float | None = None,
        min_similarity: float | None = None,
        include: Include = ("metadata", "content"),
        exact: bool = False,
        ef_search: int | None = None,
        recall: float | None = None,
    ) -> SearchResults:
        """The records nearest to a text, to a picture, or to the record whose id is ``like`` (which is left out of the result).

        Give one of the three. Text and pictures need a collection with an embedder. A ``vector`` may be given in their place; then
        ``query_modality`` says whether it is that of a text or a picture. ``target_modality`` keeps to texts or to
        pictures in a multimodal collection. Everything else as in ``search_by_vector``.

        Where the collection has a calibration, ``similarity`` is what it makes of the scores, and texts and pictures are ranked
        together by it; else it is the score held to 0..1. Only records with at least ``min_similarity`` (0..1) are returned.
        """
        if sum(x is not None for x in (text, image, like, vector)) != 1:
            raise InvalidArgument("search needs one of: text, image=, like=, vector=")
        if query_modality is not None:
            self._check_modality(query_modality, "query_modality")
            if vector is None:
                raise InvalidArgument("query_modality says what vector= was made of; give it with vector= only")
        least = check_similarity(min_similarity)
        condition = check_filter(where, self.columns)
        if target_modality is not None:
            condition = self._and(condition, self._modality_filter(target_modality))
        query: Any = vector
        if like is not None:
            condition = self._and(condition, Not(Eq(Column("id"), like)))
            record = self.get(like, include=("vector",))
            query, query_modality = record.vector, record.modality or "text"
            if query is None:
                raise InvalidArgument(f"collection {self.name!r} has named vectors only: use search_by_vector(using=…)")
        elif text is not None:
            query, query_modality = self._embedding.query(text), "text"
        elif image is not None:
            query, query_modality = self._embedding.images([image])[0], "image"
        similarities = Similarities.of(self._spec, self._calibration(), query_modality, least)
        how: dict[str, Any] = {
            "top_k": check_top_k(top_k),
            "max_distance": max_distance,
            "min_score": min_score,
            "include": include,
            "exact": exact,
            "ef_search": ef_search,
            "recall": recall,
        }
        if target_modality is None and self._spec.multimodal and similarities.comparable:
            apart: dict[Modality, SearchResults] = {}
            for kind in MODALITIES:
                narrowed = self._and(condition, self._modality_filter(kind))
                apart[kind] = self.search_by_vector(query, where=narrowed, **how)
            return similarities.together(apart, top_k)
        return similarities.measured(self.search_by_vector(query, where=condition, **how))

    # --- similarity -------------------------------------------------------------------------------------------------------------

    def calibrate(
        self, matches: Iterable[Match] = (), *, sample: int = 1_000, prior: float = PRIOR, save: bool = True
    ) -> Calibration:
        """Fit a calibration to the collection's own records, and store it unless ``save`` is false.

        ``matches`` are queries and the ids of records that they should find: ``("red dress", "p17")``, or with a picture
        (``pathlib.Path``, bytes or a Pillow image) for the text. For each pair of modalities it takes at least 10, and 200 are enough. Texts and pictures
        with one ``content_id`` match too. Other pairs are fitted to random pairs of records alone, at most ``sample`` of each modality,
        which is rougher. ``prior`` is the share of matches that a similarity is a probability for; see
        ``docs/explanation/similarity.md``.

        Raises ``RecordNotFound`` for an id in ``matches``, and ``InvalidArgument`` where there is too little to fit, or where what should match scores
        no higher than what is drawn at random.
        """
        check_calibrated(self._spec)
        fitted = fit_to_collection(self, matches, sample=check_limit(sample, "sample"), prior=prior)
        if save:
            self.set_calibration(fitted)
        return fitted

    def set_calibration(self, calibration: Calibration | None) -> None:
        """Store another calibration with the collection, or none; searches elsewhere follow within a minute."""
        if calibration is not None and not isinstance(calibration, Calibration):
            raise InvalidArgument(f"calibration is {calibration!r:.80}; it must be a Calibration or None")
        check_calibrated(self._spec)
        self._store_calibration(calibration)
        self._spec = replace(self._spec, calibration=calibration)

    def documents(self, *, tenant: str = "", owner: str = "") -> Documents:
        """The files that were ingested into the collection; what is stored by way of it is this tenant's and owner's."""
        from likewise.abc.record_documents import RecordDocuments

        return RecordDocuments(self, tenant=tenant, owner=owner)

    # --- indexes ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def ensure_indexes(
        self,
        *,
        vector: VectorIndex | None = None,
        metadata: MetadataIndex | None = None,
        using: str | None = None,
        where: Where = None,
        concurrently: bool | None = None,
        progress: IndexWatch | None = None,
    ) -> list[IndexInfo]:
        """Build the indexes that are missing, and return all that the collection then has.

        With no argument: HNSW on every vector, and GIN on the metadata. ``metadata`` is a ``Gin`` for the whole of it, or a ``Btree`` for
        one key whose numbers are compared. ``using`` names the vector to index. An index of the
        same name that differs from what is asked raises ``SchemaMismatch``.

        ``where`` builds the vector's index over the records that match only: searches whose filter has all of its conditions, and maybe
        more, use it. It is small, and such searches are as fast as those without a filter.

        ``concurrently`` builds while others write, which takes longer and first waits for transactions that are at work; without it
        writers wait. None does so if the collection is large enough for it to matter and somebody else uses the database. A
        build that is broken off leaves nothing, and one at a time goes on in a collection. ``progress`` hears how far it is.
        """

    @abstractmethod
    def indexes(self) -> list[IndexInfo]:
        """The indexes that the collection has."""

    @abstractmethod
    def index_health(self) -> list[VectorHealth]:
        """How each vector is served: its index, size and recall, whether the recall has fallen, and what would serve better and why.

        Measures as ``recall=`` does, and remembers the first measurement of an index to compare later ones with.
        """

    @abstractmethod
    def recall(
        self,
        *,
        k: int = 10,
        sample: int = 100,
        using: str | None = None,
        ef_search: int | None = None,
        queries: ColumnOfVectors | Literal["recent"] | None = None,
    ) -> float:
        """Measured recall@k: the part of the exact ``k`` nearest that the index finds too, averaged over ``sample`` stored vectors.

        That is a little kind, since each of them finds itself. ``queries`` are vectors to search for in their place, or ``"recent"``: those that
        ``search`` and ``search_by_vector`` of this object were asked for last, up to 200. No filter is applied. 1.0 without an index.
        ``InvalidArgument`` for an empty collection, and where there are no queries.
        """

    @abstractmethod
    def using(self, connection: Any) -> Self:
        """The same collection inside the caller's transaction: records and other rows commit or roll back together."""

    # --- for backends -----------------------------------------------------------------------------------------------------------

    def _batches(self, records: RecordSource, known: Known | None) -> Iterator[list[Prepared]]:
        """The records checked, embedded where they have no vector and it is not ``known``, in batches."""
        position = 0
        for batch in chunks(as_records(records), BATCH_ROWS):
            for run in self._runs(batch, position, known):
                yield run.prepared(self._spec)
            position += len(batch)

    def _blocks(self, records: RecordSource, known: Known | None) -> Iterator[Block]:
        """The same by column, in blocks of at most ``BLOCK_ROWS``, for backends that load in bulk."""
        position = 0
        for piece in pieces(records, BATCH_ROWS):
            for run in self._runs(piece, position, known):
                yield from run.blocks(self._spec, BLOCK_ROWS)
            position += len(piece)

    def _runs(
        self, piece: Piece, position: int, known: Known | None, rejected: list[InvalidRecord] | None = None
    ) -> list[Run]:
        """A piece of an input, embedded; ``position`` is the place of its first row. What cannot be is an error, or is ``rejected``."""
        if isinstance(piece, Columns):
            if self.embedder is None or piece.placed:
                return [Run(piece, position)]
            piece = list(piece.records())
        field = self._spec.vector_fields.get("")
        return self._embedding.missing(piece, position, field, known=known, rejected=rejected)

    @abstractmethod
    def _stored_vectors(self, ids: list[str]) -> Mapping[str, StoredVector]:
        """What is stored under these ids of vectors that a model made, with the digests of what it made them from."""

    @abstractmethod
    def _load_mark(self, token: str) -> LoadMark | None:
        """How far the load of this token is; None if it has not begun."""

    @abstractmethod
    def _write_part(self, part: Part, *, replace: bool, progress: Progress | None) -> int:
        """Store a part's rows and, where it has a token, its mark, all or nothing; the number of ids. ``BackendConflict`` if the mark has moved on."""

    @abstractmethod
    def _calibration(self) -> Calibration | None:
        """The calibration that is stored with the collection."""

    @abstractmethod
    def _store_calibration(self, calibration: Calibration | None) -> None:
        """Store another in its place."""

    @abstractmethod
    def _sample(self, count: int, modality: Modality | None) -> list[Record]:
        """Records drawn at random, with their own vectors; at most ``count``, of this modality if one is given."""

    def _feed(
        self, holds: frozenset[Payload], *, name: str | None, how: Literal["log", "triggers"] | None = None
    ) -> Feed:
        """What tells a copy of the rows' changes; ``name``: a copy can go on later under it."""
        raise UnsupportedFeature("following a collection", backend=type(self).__module__.split(".")[-2])

    def _position(self) -> Position:
        """Everything that was committed before the call is at or before it."""
        raise UnsupportedFeature("following a collection", backend=type(self).__module__.split(".")[-2])

    def _modality_filter(self, modality: Modality) -> Filter:
        if not self._spec.multimodal:
            raise InvalidArgument(f"collection {self.name!r} is not multimodal: it has no target_modality")
        self._check_modality(modality, "target_modality")
        return Eq(Column("modality"), modality)

    @staticmethod
    def _check_modality(modality: object, what: str) -> None:
        if modality not in MODALITIES:
            raise InvalidArgument(f"{what} is {modality!r:.80}; it must be 'text' or 'image'")

    @staticmethod
    def _and(left: Filter | None, right: Filter) -> Filter:
        return right if left is None else And(left, right)
