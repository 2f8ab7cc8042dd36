"""From files to records: read by content, cut texts into chunks, embed, store, and say what failed and why."""

from likewise.ingest.chunking import chunk_text
from likewise.ingest.loading import Document, find_files, load
from likewise.ingest.parsing import Limits, Parsed, ParserPool, Unreadable, parse, parse_isolated
from likewise.ingest.pipeline import FileFailure, IngestReport, ingest

__all__ = [
    "Document",
    "FileFailure",
    "IngestReport",
    "Limits",
    "Parsed",
    "ParserPool",
    "Unreadable",
    "chunk_text",
    "find_files",
    "ingest",
    "load",
    "parse",
    "parse_isolated",
]
