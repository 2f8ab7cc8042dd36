"""Embedding models, one file for each family, and the registry that finds them by name. Importing this loads no model runtime."""

from likewise.embedding._spending import Usage
from likewise.embedding.clip import ClipEmbedder
from likewise.embedding.hashing import HashingEmbedder
from likewise.embedding.jina_clip import JinaClipEmbedder
from likewise.embedding.mini import MiniEmbedder
from likewise.embedding.openai import OpenAIEmbedder
from likewise.embedding.registry import DEFAULT_MODEL, available_models, load_embedder, register_embedder

__all__ = [
    "DEFAULT_MODEL",
    "ClipEmbedder",
    "HashingEmbedder",
    "JinaClipEmbedder",
    "MiniEmbedder",
    "OpenAIEmbedder",
    "Usage",
    "available_models",
    "load_embedder",
    "register_embedder",
]
