"""Documents to chunks, which are embedded and found as one. Pure functions of a text; no file and no collection enters here."""

from likewise.ingest.chunking.chunk import Chunk, Chunker, Count
from likewise.ingest.chunking.config import (
    ChunkingConfig,
    HeadingsConfig,
    SemanticConfig,
    SentencesConfig,
    TokensConfig,
    from_json,
    make_chunker,
    to_json,
)
from likewise.ingest.chunking.headings import HeadingChunker
from likewise.ingest.chunking.paragraphs import MAX_CHARACTERS, chunk_text
from likewise.ingest.chunking.semantic import SemanticChunker
from likewise.ingest.chunking.sentences import SentenceChunker
from likewise.ingest.chunking.tokens import TokenChunker

__all__ = [
    "MAX_CHARACTERS",
    "Chunk",
    "Chunker",
    "ChunkingConfig",
    "Count",
    "HeadingChunker",
    "HeadingsConfig",
    "SemanticChunker",
    "SemanticConfig",
    "SentenceChunker",
    "SentencesConfig",
    "TokenChunker",
    "TokensConfig",
    "chunk_text",
    "from_json",
    "make_chunker",
    "to_json",
]
