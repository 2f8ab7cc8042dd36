"""Every interface of the house on one page: stores, collections, documents, embedders, and what they can do."""

from likewise.abc.capabilities import Capabilities, ServerInfo
from likewise.abc.document_rows import ChunkInfo, DocumentInfo, DocumentPage, DocumentStats, DocumentVectors, SyncReport
from likewise.abc.documents import Documents
from likewise.abc.documents_async import AsyncDocuments
from likewise.abc.embedder import Embedder, ImageInput, Modality, ModelCard
from likewise.abc.query_cache import QueryCacheUsage
from likewise.abc.stores import Collection
from likewise.abc.stores_async import AsyncCollection
from likewise.abc.vector_stores import VectorStore
from likewise.abc.vector_stores_async import AsyncVectorStore

__all__ = [
    "AsyncCollection",
    "AsyncDocuments",
    "AsyncVectorStore",
    "Capabilities",
    "ChunkInfo",
    "Collection",
    "DocumentInfo",
    "DocumentPage",
    "DocumentStats",
    "DocumentVectors",
    "Documents",
    "Embedder",
    "ImageInput",
    "Modality",
    "ModelCard",
    "QueryCacheUsage",
    "ServerInfo",
    "SyncReport",
    "VectorStore",
]
