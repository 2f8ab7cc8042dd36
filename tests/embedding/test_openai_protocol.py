"""Models over HTTP, without HTTP: cards and names, arguments, the key that never shows, batches, what headers and errors mean."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from likewise import InvalidArgument, ModelNotAvailable, ModelUnreachable
from likewise.embedding import OpenAIEmbedder, available_models, load_embedder
from likewise.embedding._openai import estimated_tokens, least_tokens, plan, read_problem, wait_asked

from .conftest import KEY
from .openai_server import Server, problem

Make = Callable[..., OpenAIEmbedder]


# Cards and names.


@pytest.mark.parametrize(
    ("variant", "name", "dimension", "max_tokens"),
    [
        ("", "openai:text-embedding-3-small", 1_536, 8_192),
        (":text-embedding-3-small", "openai:text-embedding-3-small", 1_536, 8_192),
        (":text-embedding-3-large", "openai:text-embedding-3-large", 3_072, 8_192),
        (":text-embedding-3-large@3072", "openai:text-embedding-3-large", 3_072, 8_192),
        (":text-embedding-3-large@256", "openai:text-embedding-3-large@256", 256, 8_192),
        (":text-embedding-ada-002", "openai:text-embedding-ada-002", 1_536, 8_192),
        (":nomic-embed-text:latest@768", "openai:nomic-embed-text:latest@768", 768, None),
        (":BAAI/bge-m3@1024", "openai:BAAI/bge-m3@1024", 1_024, None),
    ],
)
def test_a_card_is_known_without_a_server(variant: str, name: str, dimension: int, max_tokens: int | None) -> None:
    card = load_embedder(f"openai{variant}").card
    assert (card.name, card.dimension, card.max_tokens) == (name, dimension, max_tokens)
    assert card.modalities == ("text",)
    assert card.overlong == "refused"
    assert load_embedder(card.name).card == card, "the name leads back to the same model"
    assert "openai" in available_models()


@pytest.mark.parametrize(
    ("variant", "complaint"),
    [
        ("unheard-of", "not known here; .*dimensions=768.*known are: text-embedding-3-large"),
        ("text-embedding-3-small@3072", "from 1 to 1,536"),
        ("text-embedding-3-small@0", "from 1 to 1,536"),
        ("text-embedding-ada-002@256", "dimension 1536 only"),
        ("unheard-of@20000", "from 1 to 16,000"),
        ("text-embedding-3-small@", "what follows the @"),
        ("text-embedding-3-small@many", "what follows the @"),
        ("@7", "what follows the @"),
        ("a\nb@7", "cannot name a model"),
    ],
)
def test_a_name_that_cannot_be_a_model_is_refused(variant: str, complaint: str) -> None:
    with pytest.raises(ModelNotAvailable, match=complaint):
        load_embedder(f"openai:{variant}")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"dimensions": 0}, "dimension"),
        ({"budget": 0}, "budget is 0; it must be at least 1"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_retries": -1}, "max_retries"),
        ({"concurrency": 0}, "concurrency"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_request_tokens": 0}, "max_request_tokens"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"retry_for": float("inf")}, "retry_for"),
        ({"base_url": "ftp://host/v1"}, "http or https"),
        ({"base_url": "file:///etc/passwd"}, "http or https"),
        ({"base_url": "api.openai.com/v1"}, "http or https"),
        ({"base_url": "https://"}, "http or https"),
        ({"base_url": "https://host:port/v1"}, "http or https"),
        ({"base_url": "https://[::1/v1"}, "http or https"),
        ({"base_url": "https://host/v1\r\nX: y"}, "http or https"),
        ({"base_url": "https://host/a b"}, "http or https"),
    ],
)
def test_arguments_that_cannot_work_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        OpenAIEmbedder("text-embedding-3-small", **options)


@pytest.mark.parametrize(
    "url", ["https://user:sk-x@host/v1", "https://sk-x@host/v1", "https://host/v1?key=sk-x", "https://host/#sk-x"]
)
def test_an_address_has_no_secrets_in_it(url: str) -> None:
    with pytest.raises(InvalidArgument, match="no user, password, query or fragment") as caught:
        OpenAIEmbedder("text-embedding-3-small", base_url=url)
    assert "sk-x" not in str(caught.value)


def test_a_slash_at_the_end_of_the_address_does_no_harm(server: Server, embedder_of: Make) -> None:
    embedder_of(base_url=server.url + "/").embed_texts(["a"])
    assert server.seen[0].path == "/v1/embeddings"


# The key.


def test_without_a_key_openai_is_not_asked() -> None:
    embedder = OpenAIEmbedder("text-embedding-3-small")
    with pytest.raises(ModelNotAvailable, match="needs a key: give api_key, or set OPENAI_API_KEY"):
        embedder.embed_texts(["a"])
    assert embedder.usage.requests == 0
    embedder.close()


def test_without_a_key_other_servers_are_asked_without(server: Server, embedder_of: Make) -> None:
    embedder = embedder_of(api_key=None)
    embedder.embed_texts(["a"])
    assert "authorization" not in server.seen[0].headers
    server.answer = problem(401)
    with pytest.raises(ModelNotAvailable, match="needs a key"):
        embedder.embed_texts(["a"])


@pytest.mark.parametrize("key", ["sk-ünsafe", "sk-a\r\nX-Evil: 1", "sk a"])
def test_a_key_that_cannot_be_sent_is_refused(key: str, server: Server, embedder_of: Make) -> None:
    with pytest.raises(ModelNotAvailable, match="printable ASCII") as caught:
        embedder_of(api_key=key).embed_texts(["a"])
    assert key not in str(caught.value)
    assert server.seen == []


def test_a_key_may_change(server: Server, embedder_of: Make) -> None:
    keys = iter(["sk-1 ", "sk-2\n"])
    embedder = embedder_of(api_key=lambda: next(keys))
    embedder.embed_texts(["a"])
    embedder.embed_texts(["a"])
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer sk-1", "Bearer sk-2"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500])
def test_the_key_does_not_show(
    status: int, server: Server, embedder_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = problem(status, f"Incorrect API key provided: {KEY}.")
    embedder = embedder_of(max_retries=1)
    with caplog.at_level(logging.DEBUG), pytest.raises((ModelNotAvailable, ModelUnreachable)) as caught:
        embedder.embed_texts(["a"])
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    shown = [
        str(caught.value),
        repr(caught.value),
        "".join(traceback.format_exception(caught.value)),
        repr(vars(caught.value)),
        repr(embedder),
        repr(vars(embedder)),
        repr(embedder.card),
        *(f"{record.getMessage()} {vars(record)}" for record in caplog.records),
        *(seen.path for seen in server.seen),
    ]
    assert not [text for text in shown if KEY in text]


def test_a_representation_says_model_and_address() -> None:
    embedder = OpenAIEmbedder("text-embedding-3-large", dimensions=256, api_key=KEY)
    assert repr(embedder) == "OpenAIEmbedder('text-embedding-3-large@256', base_url='https://api.openai.com/v1')"


# Batches.


def test_estimates_are_high_and_lower_bounds_low() -> None:
    assert estimated_tokens("a" * 100) == 50
    assert estimated_tokens("日本語") == 9
    assert estimated_tokens("?!") == 2
    assert estimated_tokens("x") == 1
    assert least_tokens("one two  three\n") == 3
    assert least_tokens("x" * 1_280) == 10
    assert least_tokens(" ") == 1
    for text in ("The quick brown fox jumps over the lazy dog.", "日本語 テキスト", "a,b;c", " " * 300, "x" * 999):
        assert 1 <= least_tokens(text) <= estimated_tokens(text)


def test_batches_cover_all_texts_in_order_within_the_bounds() -> None:
    chance = random.Random(7)
    for _ in range(300):
        texts = ["x" * chance.randrange(1, 60) for _ in range(chance.randrange(0, 40))]
        most_texts, most_tokens = chance.randrange(1, 9), chance.randrange(1, 60)
        batches = plan(texts, max_texts=most_texts, max_tokens=most_tokens)
        assert [n for b in batches for n in range(b.start, b.stop)] == list(range(len(texts)))
        for batch in batches:
            assert 1 <= batch.stop - batch.start <= most_texts
            assert batch.tokens == sum(map(estimated_tokens, texts[batch.start : batch.stop]))
            assert batch.tokens <= most_tokens or batch.stop - batch.start == 1


# What servers say.


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "a\\n b", "code": 3}}', "a b"),
        (b'{"error": "plain"}', "plain"),
        (b'{"object": "error", "message": "flat", "code": 40303}', "flat"),
        (b'{"detail": [{"msg": "x"}]}', '[{"msg": "x"}]'),
        (b'{"error": null}', ""),
        (b"[]", ""),
        (b"oops", ""),
        (b'{"error": {"message": "key sk-1 is bad \\u0007\\u202e"}}', "key … is bad  "),
    ],
)
def test_errors_come_in_many_forms(body: bytes, message: str) -> None:
    assert read_problem(body, secret="sk-1").message.strip() == message.strip()


def test_a_long_message_is_cut() -> None:
    assert len(read_problem(b'{"error": "' + b"x" * 9_000 + b'"}').message) == 301


def test_of_several_limits_the_longest_wait_counts() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "8.64s",
        "x-ratelimit-remaining-tokens": "10",
        "x-ratelimit-reset-tokens": "1h0m1s",
    }
    assert wait_asked(headers, tokens=11, now=0) == 3_601
    assert wait_asked(headers, tokens=10, now=0) == 8.64
    assert wait_asked({}, tokens=1, now=0) is None
