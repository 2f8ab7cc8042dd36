"""Embedding models, one file for each family, and the registry that finds them by name. Importing this loads no model runtime."""

from likewise.embedding._creatives import CreativeEmbedding
from likewise.embedding._spending import Usage
from likewise.embedding.hashing import HashingEmbedder
from likewise.embedding.mini import MiniEmbedder
from likewise.embedding.openai import OpenAIEmbedder
from likewise.embedding.pipeline import EmbeddingPipeline
from likewise.embedding.pipeline_async import AsyncEmbeddingPipeline
from likewise.embedding.registry import DEFAULT_MODEL, available_models, load_embedder, register_embedder

__all__ = [
    "DEFAULT_MODEL",
    "AsyncEmbeddingPipeline",
    "CreativeEmbedding",
    "EmbeddingPipeline",
    "HashingEmbedder",
    "MiniEmbedder",
    "OpenAIEmbedder",
    "Usage",
    "available_models",
    "load_embedder",
    "register_embedder",
]
