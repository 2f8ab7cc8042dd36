# Generated from src/likewise/search/answering_async.py by tools/async_to_sync.py; edit that file instead.
"""Answers a question out of a collection, as asynchronous code; ``answering.py`` is the generated twin.

The collection finds passages; then either the statements in them that say most about the question are the answer, or a chat model writes one. What is
decided on the way is pure and elsewhere: ``_statements``, ``_extracting``, ``_prompting``.
"""

from __future__ import annotations

from contextvars import copy_context

from likewise._deadline import check_deadline
from likewise._graphemes import boundary_before
from likewise._sentences import sentences
from likewise.abc.running import run_apart, run_blocking
from likewise.abc.stores import Collection
from likewise.errors import InvalidArgument, ModelNotAvailable
from likewise.filters import Where
from likewise.records import SearchResults
from likewise.search._extracting import Question, Statement, choose
from likewise.search._prompting import messages_for, read_reply
from likewise.search._statements import statements
from likewise.search.answers import NOTHING_FOUND, Answer, Citation, Passage, citation_of, headings_of
from likewise.search.chat import Chat

__all__ = ["answer"]

#: Questions are longer than this by mistake.
LONGEST_QUESTION = 4_000
MOST_PASSAGES = 100
#: More characters than these are no answer to a question.
LONGEST_REPLY = 100_000
#: So much of a passage that is cut is of use; less is left out.
_LEAST_OF_A_PASSAGE = 80


def answer(
    collection: Collection,
    question: str,
    *,
    chat: Chat | None = None,
    top_k: int = 6,
    where: Where = None,
    min_similarity: float | None = None,
    most_characters: int = 6_000,
    most_sentences: int = 3,
) -> Answer:
    """Answer a question out of the texts of a collection, with citations.

    The ``top_k`` (1 to 100) records nearest to the question that match ``where`` are its passages, as far as they have a text, and together at most
    ``most_characters`` of it. Without a ``chat`` the answer is made of at most ``most_sentences`` sentences of theirs, the most relevant first. With one
    it is what the model writes from the passages, and from nothing else, as it is told.

    What says too little about the question is no answer, which is judged by how the collection's model compares texts that have nothing to do
    with each other. ``min_similarity`` (0 to 1) takes the judgement's place: then every passage with that similarity may answer. A chat model is given
    all passages, and judges by itself. Where nothing answers, ``found`` is false and the text says so.

    ``InvalidArgument`` for a collection without an embedder and for arguments that cannot work; ``ModelNotAvailable`` if a model fails, or a reply is
    empty; ``BackendTimeout`` at the deadline.
    """
    embedder = collection.embedder
    if embedder is None:
        raise InvalidArgument(
            f"collection {collection.name!r} has no embedder, which a question needs; make it with one: CollectionSpec(…, embedder='mini')"
        )
    _check(question, top_k, most_characters, most_sentences)
    if chat is not None and not isinstance(chat, Chat):
        raise InvalidArgument(
            f"chat is {chat!r:.80}; it must have a name and reply to messages: give a model, such as OpenAIChat('llama3.1', base_url=…)"
        )
    found = collection.search(
        question,
        top_k=top_k,
        where=where,
        min_similarity=min_similarity,
        target_modality="text" if collection.spec.multimodal else None,
        include=("metadata", "content", "vector"),
    )
    passages = _passages(found, most_characters)
    if not passages:
        return _nothing(question, "extract" if chat is None else chat.name)
    if chat is not None:
        return _by_chat(question, passages, chat)
    return _by_extract(collection, question, passages, most_sentences, judge=min_similarity is None)


def _passages(found: SearchResults, most: int) -> list[Passage]:
    """The different texts of what was found, best first, with so many characters in all; the last may be cut."""
    passages: list[Passage] = []
    seen: set[str] = set()
    for result in found:
        whole = result.record.content or ""
        if not whole.strip() or whole in seen:
            continue
        seen.add(whole)
        if len(whole) <= most:
            passages.append(Passage(result, whole))
            most -= len(whole)
            continue
        if not passages or most >= _LEAST_OF_A_PASSAGE:
            text = _beginning(whole, most)
            passages += [Passage(result, text)] if text.strip() else []
        break
    return passages


def _beginning(text: str, most: int) -> str:
    """The sentences that fit into so many characters; of a longer one as much as does."""
    end = 0
    for _, stop in sentences(text, 0, len(text)):
        if stop > most:
            break
        end = stop
    return text[:end] if text[:end].strip() else text[: boundary_before(text, most, 0)]


def _check(question: object, top_k: object, most_characters: object, most_sentences: object) -> None:
    if not isinstance(question, str) or not question.strip():
        raise InvalidArgument(f"the question is {question!r:.80}; it must be a text that asks something")
    if len(question) > LONGEST_QUESTION:
        raise InvalidArgument(f"the question has {len(question):,} characters; at most {LONGEST_QUESTION:,} are taken")
    for name, value, most in (
        ("top_k", top_k, MOST_PASSAGES),
        ("most_characters", most_characters, 1_000_000),
        ("most_sentences", most_sentences, 20),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InvalidArgument(f"{name} is {value!r:.80}; it must be a whole number from 1 to {most:,}")


def _nothing(question: str, by: str, unknown: tuple[int, ...] = ()) -> Answer:
    return Answer(NOTHING_FOUND, (), found=False, by=by, question=question, unknown_citations=unknown)


def _by_extract(collection: Collection, question: str, passages: list[Passage], most: int, *, judge: bool) -> Answer:
    import numpy as np

    embedder = collection.embedder
    assert embedder is not None
    candidates: dict[str, Statement] = {}
    for place, passage in enumerate(passages):
        metadata = passage.result.record.metadata
        title = metadata.get("title")
        titles = [*headings_of(metadata), *([title] if isinstance(title, str) else [])]
        for text in statements(passage.text, titles=titles):
            # Passages overlap; what two of them say is the better one's.
            candidates.setdefault(text.casefold(), Statement(text, place))
    # Remembered since the search.
    vector = collection._embedding.query(question)
    rows = np.stack([np.asarray(passage.result.record.vector, np.float32) for passage in passages])
    check_deadline()
    chosen = run_blocking(choose, embedder, Question(vector, rows), list(candidates.values()), most=most, judge=judge)
    check_deadline()
    if not chosen:
        return _nothing(question, "extract")
    numbers: dict[int, int] = {}
    for statement in chosen:
        numbers.setdefault(statement.passage, len(numbers) + 1)
    text = " ".join(f"{statement.text} [{numbers[statement.passage]}]" for statement in chosen)
    citations = tuple(citation_of(passages[place], number) for place, number in numbers.items())
    return Answer(text, citations, found=True, by="extract", question=question)


def _by_chat(question: str, passages: list[Passage], chat: Chat) -> Answer:
    check_deadline()
    # A thread of its own: a reply takes long, and Likewise's threads are for embedding.
    said = run_apart(copy_context().run, chat.reply, messages_for(question, passages))
    check_deadline()
    reply = read_reply(_checked(said, chat), len(passages))
    if not reply.answers:
        return _nothing(question, chat.name)
    citations: tuple[Citation, ...] = tuple(
        citation_of(passages[place - 1], number) for number, place in enumerate(reply.cited, 1)
    )
    return Answer(reply.text, citations, bool(citations), chat.name, question, reply.unknown)


def _checked(said: object, chat: Chat) -> str:
    if not isinstance(said, str) or not said.strip():
        raise ModelNotAvailable(f"{chat.name} replied with {said!r:.80}; a reply is a text", model=chat.name)
    if len(said) > LONGEST_REPLY:
        raise ModelNotAvailable(
            f"{chat.name} replied with {len(said):,} characters; at most {LONGEST_REPLY:,} are taken", model=chat.name
        )
    return said
