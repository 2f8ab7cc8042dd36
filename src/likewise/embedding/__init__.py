"""Embedding models, one file for each family, and the registry that finds them by name. Importing this loads no model runtime."""

from likewise.embedding._spending import Usage
from likewise.embedding.fastembed import FastEmbedEmbedder
from likewise.embedding.hashing import HashingEmbedder
from likewise.embedding.mini import MiniEmbedder
from likewise.embedding.openai import OpenAIEmbedder
from likewise.embedding.registry import DEFAULT_MODEL, available_models, load_embedder, register_embedder
from likewise.embedding.sentence_transformers import SentenceTransformersEmbedder

__all__ = [
    "DEFAULT_MODEL",
    "FastEmbedEmbedder",
    "HashingEmbedder",
    "MiniEmbedder",
    "OpenAIEmbedder",
    "SentenceTransformersEmbedder",
    "Usage",
    "available_models",
    "load_embedder",
    "register_embedder",
]
