"""From files to records: read by content, cut texts into chunks, embed, store, and say what failed and why."""

from likewise.ingest.chunking import chunk_text
from likewise.ingest.config import IngestConfig, PagesConfig, ParagraphsConfig, TextConfig
from likewise.ingest.loading import Document, find_files, load
from likewise.ingest.parsing import (
    Limits,
    Parsed,
    ParseOptions,
    ParserPool,
    Unreadable,
    parse,
    parse_isolated,
    render_pages,
)
from likewise.ingest.pipeline import ingest
from likewise.ingest.report import FileFailure, IngestReport
from likewise.ingest.watching import watch_folders

__all__ = [
    "Document",
    "FileFailure",
    "IngestConfig",
    "IngestReport",
    "Limits",
    "PagesConfig",
    "ParagraphsConfig",
    "ParseOptions",
    "Parsed",
    "ParserPool",
    "TextConfig",
    "Unreadable",
    "chunk_text",
    "find_files",
    "ingest",
    "load",
    "parse",
    "parse_isolated",
    "render_pages",
    "watch_folders",
]
