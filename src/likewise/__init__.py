"""Likewise: semantic search over text and images inside the PostgreSQL you already run.

    import likewise
    from likewise import CollectionSpec, Record

    with likewise.connect() as store:
        articles = store.ensure_collection(CollectionSpec("articles", embedder="mini"))
        articles.upsert(Record("a", content="A flamingo stands on one leg."))
        print(articles.search("a bird with a long neck")[0].record.content)

Importing it loads no driver and no model; those come with the first connection and the first embedding.
"""

from likewise._connect import attach, connect
from likewise._connect_async import attach_async, connect_async
from likewise._deadline import deadline
from likewise.abc import (
    AsyncCollection,
    AsyncVectorStore,
    Capabilities,
    Collection,
    Embedder,
    ModelCard,
    ServerInfo,
    VectorStore,
)
from likewise.codecs import Codec, DataclassCodec, PydanticCodec
from likewise.errors import (
    BackendConflict,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    CollectionNotFound,
    DimensionMismatch,
    InvalidArgument,
    InvalidFilter,
    InvalidRecord,
    LikewiseError,
    ModelNotAvailable,
    NotFound,
    OptionalDependencyError,
    RecordExists,
    RecordNotFound,
    SchemaMismatch,
    UnsupportedFeature,
)
from likewise.filters import (
    And,
    Between,
    Column,
    Contains,
    ContainsAll,
    ContainsAny,
    EndsWith,
    Eq,
    Exists,
    Filter,
    Gt,
    Gte,
    In,
    IsNull,
    Like,
    Lt,
    Lte,
    Metadata,
    Ne,
    Not,
    NotIn,
    Or,
    StartsWith,
    TextMatch,
)
from likewise.metrics import Metric
from likewise.records import (
    LoadProgress,
    LoadReport,
    Page,
    Record,
    RejectedRecord,
    SearchExplanation,
    SearchResult,
    SearchResults,
)
from likewise.schema import Btree, CollectionSpec, Gin, Hnsw, IndexInfo, IvfFlat, VectorField
from likewise.typed import TypedCollection, TypedPage, TypedResult, TypedResults
from likewise.typed_async import AsyncTypedCollection

__all__ = [
    "And",
    "AsyncCollection",
    "AsyncTypedCollection",
    "AsyncVectorStore",
    "BackendConflict",
    "BackendError",
    "BackendTimeout",
    "BackendUnavailable",
    "Between",
    "Btree",
    "Capabilities",
    "Codec",
    "Collection",
    "CollectionNotFound",
    "CollectionSpec",
    "Column",
    "Contains",
    "ContainsAll",
    "ContainsAny",
    "DataclassCodec",
    "DimensionMismatch",
    "Embedder",
    "EndsWith",
    "Eq",
    "Exists",
    "Filter",
    "Gin",
    "Gt",
    "Gte",
    "Hnsw",
    "In",
    "IndexInfo",
    "InvalidArgument",
    "InvalidFilter",
    "InvalidRecord",
    "IsNull",
    "IvfFlat",
    "Like",
    "LikewiseError",
    "LoadProgress",
    "LoadReport",
    "Lt",
    "Lte",
    "Metadata",
    "Metric",
    "ModelCard",
    "ModelNotAvailable",
    "Ne",
    "Not",
    "NotFound",
    "NotIn",
    "OptionalDependencyError",
    "Or",
    "Page",
    "PydanticCodec",
    "Record",
    "RecordExists",
    "RecordNotFound",
    "RejectedRecord",
    "SchemaMismatch",
    "SearchExplanation",
    "SearchResult",
    "SearchResults",
    "ServerInfo",
    "StartsWith",
    "TextMatch",
    "TypedCollection",
    "TypedPage",
    "TypedResult",
    "TypedResults",
    "UnsupportedFeature",
    "VectorField",
    "VectorStore",
    "attach",
    "attach_async",
    "connect",
    "connect_async",
    "deadline",
]

__version__ = "0.1.0"
