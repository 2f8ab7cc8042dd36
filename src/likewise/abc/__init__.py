"""Every interface of the house on one page: stores, collections, embedders, and what they can do."""

from likewise.abc.capabilities import Capabilities, ServerInfo
from likewise.abc.embedder import Embedder, ImageInput, Modality, ModelCard
from likewise.abc.query_cache import QueryCacheUsage
from likewise.abc.stores import Collection
from likewise.abc.stores_async import AsyncCollection
from likewise.abc.vector_stores import VectorStore
from likewise.abc.vector_stores_async import AsyncVectorStore

__all__ = [
    "AsyncCollection",
    "AsyncVectorStore",
    "Capabilities",
    "Collection",
    "Embedder",
    "ImageInput",
    "Modality",
    "ModelCard",
    "QueryCacheUsage",
    "ServerInfo",
    "VectorStore",
]
