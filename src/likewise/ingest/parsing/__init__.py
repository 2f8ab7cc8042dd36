"""The parsing stage: documents of many formats become text and what they say of themselves, in a process of its own if need be."""

from likewise.ingest.parsing.formats import is_plain, parse
from likewise.ingest.parsing.isolated import ParserPool, parse_isolated
from likewise.ingest.parsing.parsed import (
    DEFAULT_LIMITS,
    DEFAULT_OPTIONS,
    Limits,
    Parsed,
    ParseOptions,
    Unreadable,
)
from likewise.ingest.parsing.rendering import render_pages

__all__ = [
    "DEFAULT_LIMITS",
    "DEFAULT_OPTIONS",
    "Limits",
    "ParseOptions",
    "Parsed",
    "ParserPool",
    "Unreadable",
    "is_plain",
    "parse",
    "parse_isolated",
    "render_pages",
]
