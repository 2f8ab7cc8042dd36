"""Chat models: what one is to the rest of the house, and those behind the chat completions API of OpenAI or of a server with the same protocol.

The protocol: https://platform.openai.com/docs/api-reference/chat. No environment variable is read here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol, runtime_checkable

from likewise.embedding._asking import BASE_URL, Refused, Server
from likewise.embedding._openai import MalformedAnswer, check_base_url
from likewise.errors import InvalidArgument
from likewise.search._prompting import Message

__all__ = ["BASE_URL", "Chat", "Message", "OpenAIChat"]

#: Bytes of JSON for each character of a reply: an escaped surrogate pair has twelve for one.
_BYTES_PER_CHARACTER = 12


@runtime_checkable
class Chat(Protocol):
    """A model that replies to a conversation. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """What the model is called."""
        ...

    def reply(self, messages: Sequence[Message], /) -> str:
        """The model's next message, as plain text. It may block; asynchronous callers run it in a thread."""
        ...


class OpenAIChat:
    """A chat model behind the API of OpenAI, or of any server with the same protocol at another ``base_url``.

    ``model`` is the server's name for it. ``api_key`` is the key, or a function that gives it at each request; None sends none, which OpenAI's own
    address does not take. ``temperature`` is 0 for the steadiest replies, None to leave it to the server: some models take no other than their own.
    ``options`` are further keys of the request, as the server knows them: ``{"max_completion_tokens": 500}``.

    One request may take ``timeout`` seconds. It is made again, at most ``max_retries`` times and for ``retry_for`` seconds in all, if the server is
    busy, fails or cannot be reached. At most ``concurrency`` are under way. A reply of more than ``most_characters`` is an error.

    Deadlines are obeyed. ``InvalidArgument`` for arguments that cannot work. It needs httpx: ``pip install 'likewise[openai]'``.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = BASE_URL,
        api_key: str | Callable[[], str | None] | None = None,
        temperature: float | None = 0.0,
        options: Mapping[str, Any] | None = None,
        timeout: float = 120.0,
        max_retries: int = 3,
        retry_for: float = 180.0,
        concurrency: int = 4,
        most_characters: int = 20_000,
    ) -> None:
        if not model or not model.isprintable():
            raise InvalidArgument(f"{model!r:.80} cannot name a model")
        if temperature is not None and not (math.isfinite(temperature) and temperature >= 0):
            raise InvalidArgument(f"temperature is {temperature}; it must be 0 or more, or None")
        for name, number, least in (
            ("max_retries", max_retries, 0),
            ("concurrency", concurrency, 1),
            ("most_characters", most_characters, 1),
        ):
            if number < least:
                raise InvalidArgument(f"{name} is {number}; it must be at least {least}")
        for name, seconds in (("timeout", timeout), ("retry_for", retry_for)):
            if not (seconds > 0 and math.isfinite(seconds)):
                raise InvalidArgument(f"{name} is {seconds}; it must be a positive number of seconds")
        self._options: dict[str, Any] = dict(options or {})
        if taken := sorted({"model", "messages", "stream", "n"} & self._options.keys()):
            raise InvalidArgument(f"options has {', '.join(taken)}, which the request says itself; leave it out")
        try:
            json.dumps(self._options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"options cannot be said in JSON: {error}") from error
        self._model = model
        self._temperature = temperature
        self._most_characters = most_characters
        self._server = Server(
            check_base_url(base_url),
            "/chat/completions",
            name=model,
            gives="reply",
            # A function, so that the key is in no attribute.
            key=(lambda: api_key) if isinstance(api_key, str | None) else api_key,
            no_key="needs a key: give api_key",
            settings="the model's name and base_url",
            timeout=float(timeout),
            max_retries=max_retries,
            retry_for=float(retry_for),
            concurrency=concurrency,
        )

    def __repr__(self) -> str:
        return f"OpenAIChat({self._model!r}, base_url={self._server.base_url!r})"

    @property
    def name(self) -> str:
        """The server's name for the model."""
        return self._model

    def close(self) -> None:
        """Close the connections, each when it is not in use any more. The chat may be used again; it then connects anew."""
        self._server.close()

    def reply(self, messages: Sequence[Message], /) -> str:
        """The model's reply, without white space around it.

        ``ModelUnreachable`` if the server does not answer; ``ModelNotAvailable`` if it refuses the key, the model or the request, or if the reply is
        empty, cut off, or longer than ``most_characters``; ``BackendTimeout`` at the deadline.
        """
        if not messages:
            raise InvalidArgument("messages is empty; a reply needs something to reply to")
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
        }
        if self._temperature is not None:
            body["temperature"] = self._temperature
        try:
            return self._server.ask(
                json.dumps(body | self._options, ensure_ascii=False).encode("utf-8", "replace"),
                most_bytes=65_536 + self._most_characters * _BYTES_PER_CHARACTER,
                read=self._read,
                paying=nullcontext,
            )
        except Refused as refused:
            raise self._server.failure(
                f"refuses the request: {refused}; if that is about its length, give fewer passages (top_k) or shorter ones (most_characters)"
            ) from None

    def _read(self, answer: bytes, _: None) -> str:
        text, finish = _content(answer)
        if not text:
            raise MalformedAnswer(f"the reply is empty{f' (finish_reason {finish!r:.40})' if finish != 'stop' else ''}")
        if finish == "length":
            raise MalformedAnswer("the reply is cut off at the server's limit; allow more tokens, by options")
        if len(text) > self._most_characters:
            raise MalformedAnswer(
                f"the reply has {len(text):,} characters, more than most_characters={self._most_characters:,}"
            )
        return text


def _content(answer: bytes) -> tuple[str, str]:
    """(text, finish_reason) of the first choice; ``MalformedAnswer`` if it is not what the protocol says."""
    try:
        document: Any = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer("it is not JSON; is the base_url that of an API?") from error
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise MalformedAnswer("it has no list 'choices'; is the base_url that of an API?")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise MalformedAnswer("its first choice has no message")
    refusal, content = message.get("refusal"), message.get("content")
    if isinstance(refusal, str) and refusal and not content:
        raise MalformedAnswer(f"the model refuses: {' '.join(refusal.split()):.300}")
    if content is not None and not isinstance(content, str):
        raise MalformedAnswer("the content of its message is no text")
    finish = choices[0].get("finish_reason")
    return (content or "").strip(), finish if isinstance(finish, str) else "stop"
