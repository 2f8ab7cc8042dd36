"""Embedding models, one file for each family, and the registry that finds them by name. Importing this loads no model runtime."""

from likewise.embedding._creatives import CreativeEmbedding
from likewise.embedding._hub import Loading, ModelFiles, Source
from likewise.embedding._onnx_text import OnnxTextEmbedder, TextModel
from likewise.embedding._spending import Usage
from likewise.embedding.bge import BgeEmbedder, BgeM3Embedder
from likewise.embedding.clip import ClipEmbedder
from likewise.embedding.fastembed import FastEmbedEmbedder
from likewise.embedding.hashing import HashingEmbedder
from likewise.embedding.jina_clip import JinaClipEmbedder
from likewise.embedding.mini import MiniEmbedder
from likewise.embedding.minilm import MiniLMEmbedder
from likewise.embedding.openai import OpenAIEmbedder
from likewise.embedding.pipeline import EmbeddingPipeline
from likewise.embedding.pipeline_async import AsyncEmbeddingPipeline
from likewise.embedding.pulling import model_files, pull_model
from likewise.embedding.registry import DEFAULT_MODEL, available_models, load_embedder, register_embedder
from likewise.embedding.sentence_transformers import SentenceTransformersEmbedder

__all__ = [
    "DEFAULT_MODEL",
    "AsyncEmbeddingPipeline",
    "BgeEmbedder",
    "BgeM3Embedder",
    "ClipEmbedder",
    "CreativeEmbedding",
    "EmbeddingPipeline",
    "FastEmbedEmbedder",
    "HashingEmbedder",
    "JinaClipEmbedder",
    "Loading",
    "MiniEmbedder",
    "MiniLMEmbedder",
    "ModelFiles",
    "OnnxTextEmbedder",
    "OpenAIEmbedder",
    "SentenceTransformersEmbedder",
    "Source",
    "TextModel",
    "Usage",
    "available_models",
    "load_embedder",
    "model_files",
    "pull_model",
    "register_embedder",
]
