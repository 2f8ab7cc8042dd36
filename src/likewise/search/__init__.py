"""Answers out of a collection: a question, the passages that it is about, and a text that cites them."""

from likewise.search.answering import answer
from likewise.search.answering_async import answer_async
from likewise.search.answers import NOTHING_FOUND, Answer, Citation
from likewise.search.chat import Chat, Message, OpenAIChat

__all__ = ["NOTHING_FOUND", "Answer", "Chat", "Citation", "Message", "OpenAIChat", "answer", "answer_async"]
