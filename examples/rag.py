"""Retrieval-augmented generation over a story: it is cut into chunks, stored, and asked; each answer cites the chunks that it rests on.

Run it with ``python examples/rag.py``. Without more it uses the embedded PostgreSQL, the story beside it and no chat model: answers are sentences of
the story. ``--chat MODEL --chat-url http://localhost:11434/v1`` has a model write them; its key, if it needs one, is ``LIKEWISE_CHAT_API_KEY``.
``python examples/rag.py FILE --ask QUESTION`` asks a text of your own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import likewise
from likewise import CollectionSpec, Record
from likewise.embedding import load_embedder
from likewise.ingest.chunking import SentencesConfig, make_chunker
from likewise.search import OpenAIChat, answer

STORY = Path(__file__).with_name("story.txt")
QUESTIONS = (
    "What was the name of the cat?",
    "How much oil does the lamp need?",
    "Which ship was wrecked on the reef?",
    "What is written on the bell?",
    "How is the bell rung today?",
    "What is the capital of Mongolia?",
)


def chunks_of(text: str, source: str) -> list[Record]:
    """Records of about four sentences each; the last sentence of one begins the next, so that "it" stays near what it stands for."""
    chunker = make_chunker(SentencesConfig(size=90, overlap_sentences=1), load_embedder("mini"))
    return [
        Record(
            f"{source}#{n}",
            content=chunk.text,
            metadata={"source": source, "start": chunk.start, "end": chunk.end},
        )
        for n, chunk in enumerate(chunker.chunk(text))
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Store the story, and answer questions about it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("story", nargs="?", type=Path, default=STORY, help="a text (default: the one beside this file)")
    parser.add_argument("--database", metavar="URL", help="the database (default: the embedded one)")
    parser.add_argument("--ask", metavar="QUESTION", action="append", help="a question; may be given again")
    parser.add_argument("--chat", metavar="MODEL", help="the chat model that writes the answers")
    parser.add_argument("--chat-url", metavar="URL", help="its server (default: OpenAI's)")
    options = parser.parse_args(arguments)

    chat = None
    if options.chat:
        where = {"base_url": options.chat_url} if options.chat_url else {}
        chat = OpenAIChat(options.chat, api_key=os.environ.get("LIKEWISE_CHAT_API_KEY"), **where)

    text = options.story.read_text(encoding="utf-8")
    with likewise.connect(options.database) as store:
        story = store.ensure_collection(CollectionSpec("example_story", embedder="mini"))
        this = {"source": options.story.name}
        # What an earlier run cut otherwise.
        story.delete(where=this)
        records = chunks_of(text, options.story.name)
        story.upsert(records)
        print(f"{options.story.name}: {len(text.split()):,} words in {len(records)} chunks")

        for question in options.ask or QUESTIONS:
            found = answer(story, question, chat=chat, where=this, top_k=5, most_sentences=2)
            print(f"\n{question}\n  {found.text}")
            for citation in found.citations:
                place = f"characters {citation.start} to {citation.end}"
                print(f"  [{citation.number}] {citation.source}, {place}, similarity {citation.similarity:.2f}")
    if chat is not None:
        chat.close()


if __name__ == "__main__":
    main()
