"""``likewise ask``: an answer out of a collection, with the passages that it rests on."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from likewise.cli.context import Context, parse_where
from likewise.cli.exits import Exit
from likewise.errors import InvalidArgument

if TYPE_CHECKING:
    from likewise.search import Citation, OpenAIChat

HELP = "answer a question out of a collection, and cite what the answer rests on"

_LONGEST_QUOTE = 300


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("question", metavar="QUESTION", help="what to answer, in words")
    parser.add_argument(
        "-c", "--collection", metavar="NAME", help="where to look; by default 'demo', or the only collection there is"
    )
    parser.add_argument(
        "-k", "--top-k", metavar="N", type=int, default=6, help="how many passages at most (1 to 100; default: 6)"
    )
    parser.add_argument(
        "--where", metavar="JSON", help="""keep to records that match this filter: '{"owner": "ann"}'"""
    )
    parser.add_argument(
        "--min-similarity", metavar="X", type=float, help="leave out passages with a lower similarity (0 to 1)"
    )
    parser.add_argument(
        "--chat", metavar="MODEL", help="have this chat model write the answer; by default it is sentences of passages"
    )
    parser.add_argument(
        "--chat-url",
        metavar="URL",
        help="the server of the chat model, which speaks OpenAI's protocol: http://localhost:11434/v1; by default "
        "$OPENAI_BASE_URL, else OpenAI's. The key is $LIKEWISE_CHAT_API_KEY, or for the default server $OPENAI_API_KEY",
    )


def run(context: Context) -> int:
    """Ask and print."""
    from likewise.search import NOTHING_FOUND, answer

    options = context.options
    if options.chat_url is not None and options.chat is None:
        raise InvalidArgument("--chat-url names a server; say which of its models with --chat MODEL")
    where = parse_where(options.where)
    with _chat(options) as chat, context.store() as store:
        collection = context.collection(store, options.collection)
        found = answer(
            collection,
            options.question,
            chat=chat,
            top_k=options.top_k,
            where=where,
            min_similarity=options.min_similarity,
        )
    context.output.document({"collection": collection.name, **dataclasses.asdict(found)})
    context.output.line(found.text)
    if found.citations:
        context.output.line()
    for citation in found.citations:
        context.output.line(_where(citation))
        quote = " ".join(citation.quote.split())
        if len(quote) > _LONGEST_QUOTE:
            quote = f"{quote[: _LONGEST_QUOTE - 1]}…"
        context.output.line(f"    {quote}", style="dim")
    if found.unknown_citations:
        numbers = ", ".join(map(str, found.unknown_citations))
        context.output.note(f"warning: {found.by} cited what was no passage: {numbers}", style="yellow")
    if not found.found and found.text != NOTHING_FOUND:
        context.output.note(f"warning: {found.by} cited no passage; do not rely on what it says", style="yellow")
    return Exit.OK


def _where(citation: Citation) -> str:
    """A citation's number and place, on one line."""
    parts = [citation.source or citation.record_id]
    if citation.page is not None:
        parts.append(f"page {citation.page}")
    if citation.headings:
        parts.append(" > ".join(citation.headings))
    elif citation.title:
        parts.append(citation.title)
    place = ", ".join(" ".join(part.split()) for part in parts)
    return f"[{citation.number}] {place} (similarity {citation.similarity:.2f})"


@contextmanager
def _chat(options: argparse.Namespace) -> Iterator[OpenAIChat | None]:
    """The chat model that was asked for. A key of all programs is not sent to an address that was given to this one."""
    if options.chat is None:
        yield None
        return
    from likewise.search import OpenAIChat
    from likewise.search.chat import BASE_URL

    names = ("LIKEWISE_CHAT_API_KEY",) if options.chat_url else ("LIKEWISE_CHAT_API_KEY", "OPENAI_API_KEY")
    key = next((value for name in names if (value := os.environ.get(name))), None)
    chat = OpenAIChat(
        options.chat, base_url=options.chat_url or os.environ.get("OPENAI_BASE_URL") or BASE_URL, api_key=key
    )
    try:
        yield chat
    finally:
        chat.close()
