"""Models over HTTP: vectors as the server gave them, whole requests, and a clear error for everything that goes wrong."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import likewise
from likewise import (
    BackendTimeout,
    BudgetExceeded,
    CollectionSpec,
    InvalidArgument,
    ModelNotAvailable,
    OptionalDependencyError,
    Record,
)
from likewise.embedding import OpenAIEmbedder, Usage, load_embedder
from likewise.embedding.registry import _openai as named

from .openai_server import Answer, Reply, Seen, Server, dripping, embeddings, problem, vectors_of

Make = Callable[..., OpenAIEmbedder]
TEXTS = [f"text number {n}" for n in range(10)]


# What is embedded.


@pytest.mark.parametrize(
    "answer",
    [
        embeddings(4),
        embeddings(4, encoding="float"),
        embeddings(4, order=lambda items: items[::-1]),
        embeddings(4, encoding="float", order=lambda items: items[3:] + items[:3]),
        embeddings(4, order=lambda items: [{"embedding": item["embedding"]} for item in items]),
        embeddings(4, usage=None),
    ],
    ids=["base64", "floats", "backwards", "floats turned", "not numbered", "no usage"],
)
def test_vectors_are_those_of_the_server_in_the_order_of_the_texts(
    answer: Answer, server: Server, embedder_of: Make
) -> None:
    server.answer = answer
    vectors = embedder_of().embed_texts(TEXTS)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, vectors_of(TEXTS, 4))
    assert vectors.flags.writeable
    assert len(server.seen) == 1


def test_a_request_says_what_the_protocol_wants(server: Server, embedder_of: Make) -> None:
    server.answer = embeddings(1536)
    embedder_of("text-embedding-3-small").embed_texts(["naïve 日本語"])
    (seen,) = server.seen
    assert seen.path == "/v1/embeddings"
    assert seen.body == {"model": "text-embedding-3-small", "input": ["naïve 日本語"], "encoding_format": "base64"}
    assert seen.headers["authorization"] == "Bearer sk-test-0123456789abcdef"
    assert seen.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("model", "options", "sent"),
    [
        ("text-embedding-3-small", {"dimensions": 256}, 256),
        ("text-embedding-3-small", {"dimensions": 1536}, None),
        ("text-embedding-3-small", {"dimensions": 1536, "shorten": True}, 1536),
        ("other", {"dimensions": 32}, None),
        ("other", {"dimensions": 32, "shorten": True}, 32),
    ],
)
def test_a_dimension_is_asked_for_only_where_the_model_has_another(
    model: str, options: dict[str, Any], sent: int | None, server: Server, embedder_of: Make
) -> None:
    server.answer = embeddings(options["dimensions"])
    embedder = embedder_of(model, **options)
    assert embedder.embed_texts(["a"]).shape == (1, options["dimensions"])
    assert server.seen[0].body.get("dimensions") == sent


def test_no_text_costs_no_request(server: Server, embedder_of: Make) -> None:
    embedder = embedder_of()
    assert embedder.embed_texts([]).shape == (0, 4)
    assert embedder.usage == Usage()
    assert server.seen == []


def test_pictures_are_not_embedded(embedder_of: Make) -> None:
    with pytest.raises(likewise.UnsupportedFeature, match="pictures"):
        embedder_of().embed_images([b""])


def test_prompts_are_put_before_texts(server: Server, embedder_of: Make) -> None:
    embedder = embedder_of(query_prompt="query: ", passage_prompt="passage: ")
    embedder.embed_queries(["a"])
    embedder.embed_passages(["b"])
    embedder.embed_texts(["c"])
    assert [seen.texts for seen in server.seen] == [["query: a"], ["passage: b"], ["c"]]
    assert (embedder.card.query_prompt, embedder.card.passage_prompt) == ("query: ", "passage: ")


# Batches.


def test_batches_have_as_many_texts_as_the_server_takes(server: Server, embedder_of: Make) -> None:
    texts = [str(n) for n in range(2_050)]
    vectors = embedder_of(concurrency=1).embed_texts(texts)
    assert server.sizes == [2_048, 2]
    assert server.seen[1].texts == ["2048", "2049"]
    assert np.array_equal(vectors, vectors_of(texts, 4))


def test_batches_have_as_many_tokens_as_are_allowed(server: Server, embedder_of: Make) -> None:
    embedder = embedder_of(max_request_tokens=20, concurrency=1)
    texts = ["x" * 20, "y" * 20, "z" * 2, "é" * 10, "w" * 100, "v"]  # 10, 10, 1, 20, 50 and 1 token, as estimated
    assert np.array_equal(embedder.embed_texts(texts), vectors_of(texts, 4))
    assert [seen.texts for seen in server.seen] == [texts[:2], texts[2:3], texts[3:4], texts[4:5], texts[5:]]


def test_300_000_tokens_are_the_limit_unless_given(server: Server, embedder_of: Make) -> None:
    embedder_of(concurrency=1).embed_texts(["x" * 2_000] * 302)
    assert server.sizes == [300, 2]


def test_at_most_so_many_requests_are_under_way_and_order_is_kept(server: Server, embedder_of: Make) -> None:
    full = threading.Barrier(3)

    def three_at_a_time(seen: Seen) -> Reply:
        full.wait(10)
        return embeddings(4)(seen)

    server.answer = three_at_a_time
    embedder = embedder_of(max_batch=1, concurrency=3)
    texts = [f"a {n}" for n in range(12)]
    results: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: embedder.embed_texts(texts[6 * n : 6 * n + 6])}))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.most_under_way == 3
    assert server.sizes == [1] * 12
    assert np.array_equal(np.concatenate([results[0], results[1]]), vectors_of(texts, 4))


def test_the_first_failure_stops_what_was_not_sent(server: Server, embedder_of: Make) -> None:
    server.script.extend([embeddings(4), problem(401)])
    with pytest.raises(ModelNotAvailable, match="refuses the key"):
        embedder_of(max_batch=1, concurrency=2).embed_texts([str(n) for n in range(200)])
    assert len(server.seen) < 20


# Texts that are refused.


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["a", "", "b"], "text 1 is empty"),
        (
            ["a", "word " * 8_193],
            "text 1 has 40,965 characters, which are at least 8,193 tokens; .* takes at most 8,192",
        ),
        (["x" * 1_100_000], "text 0 .* at least 8,593 tokens"),
        (["a", 5], "text 1 is a int"),
        (["a", "b", "\ud800"], "text 2 has a lone surrogate"),
        ("abc", "list"),
    ],
)
def test_what_cannot_be_embedded_is_named_before_anything_is_sent(
    texts: list[str], complaint: str, server: Server, embedder_of: Make
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        embedder_of("text-embedding-3-small", max_batch=1).embed_texts(texts)
    assert server.seen == []


def picky(bad: str, answer: Answer) -> Answer:
    return lambda seen: problem(400, "invalid input")(seen) if bad in seen.texts else answer(seen)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_one_bad_text_of_a_hundred_is_found(concurrency: int, server: Server, embedder_of: Make) -> None:
    texts = [f"number {n}" for n in range(100)]
    server.answer = picky("number 37", server.answer)
    embedder = embedder_of(concurrency=concurrency)
    embedder.warm_up()
    with pytest.raises(InvalidArgument, match=r"text 37 is refused by openai:tiny@4 at http.*: invalid input"):
        embedder.embed_texts(texts)
    assert server.sizes[1:] == [100, 50, 25, 25, 12, 13, 6, 3, 1]


def test_a_bad_text_in_a_later_batch_is_named_by_its_place_in_the_call(server: Server, embedder_of: Make) -> None:
    server.answer = picky("number 17", server.answer)
    with pytest.raises(InvalidArgument, match="text 17 "):
        embedder_of(max_batch=5, concurrency=1).embed_texts([f"number {n}" for n in range(30)])


def test_if_every_request_is_refused_no_text_is_blamed(server: Server, embedder_of: Make) -> None:
    server.answer = problem(400, "unknown field")
    with pytest.raises(ModelNotAvailable, match="refuses every request for openai:tiny@4: unknown field"):
        embedder_of().embed_texts(TEXTS)
    assert server.sizes == [10, 1]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_server_that_takes_fewer_texts_gets_fewer(status: int, server: Server, embedder_of: Make) -> None:
    small = server.answer
    server.answer = lambda seen: problem(status, "at most 3")(seen) if len(seen.texts) > 3 else small(seen)
    assert np.array_equal(embedder_of().embed_texts(TEXTS), vectors_of(TEXTS, 4))
    assert server.sizes == [10, 1, 5, 2, 3, 5, 2, 3]


# The budget.


def test_usage_is_what_the_server_counted(server: Server, embedder_of: Make) -> None:
    server.answer = embeddings(4, tokens=7)
    embedder = embedder_of(max_batch=5)
    embedder.embed_texts(TEXTS)
    assert embedder.usage == Usage(requests=2, tokens=14, retries=0)
    server.answer = embeddings(4, usage={"prompt_tokens": 3})
    embedder.embed_texts(["a"])
    assert embedder.usage == Usage(requests=3, tokens=17, retries=0)
    server.answer = embeddings(4, usage={"total_tokens": "many"})
    embedder.embed_texts(["four"])
    assert embedder.usage == Usage(requests=4, tokens=19, retries=0)


def test_a_budget_is_not_passed(server: Server, embedder_of: Make) -> None:
    server.answer = embeddings(4, tokens=4)
    embedder = embedder_of(budget=10)
    embedder.embed_texts(["x" * 20])
    with pytest.raises(
        BudgetExceeded, match=r"budget of 10 tokens for openai:tiny@4.*4 are spent.*up to 10 more"
    ) as caught:
        embedder.embed_texts(["x" * 20])
    assert (caught.value.budget, caught.value.spent, caught.value.needed) == (10, 4, 10)
    assert not caught.value.retryable
    assert len(server.seen) == 1
    embedder.embed_texts(["x" * 12])
    assert embedder.usage.tokens == 8


def test_a_call_that_certainly_passes_the_budget_sends_nothing(server: Server, embedder_of: Make) -> None:
    with pytest.raises(BudgetExceeded, match="at least 60 more"):
        embedder_of(budget=50, max_batch=1).embed_texts(["a b c"] * 20)
    assert server.seen == []


def test_requests_wait_for_what_others_leave_of_the_budget(server: Server, embedder_of: Make) -> None:
    server.answer = embeddings(4, tokens=1)
    embedder = embedder_of(budget=25, max_batch=1, concurrency=4)
    assert len(embedder.embed_texts(["x" * 20] * 12)) == 12  # each may take 10, so that two fit at once
    assert server.most_under_way <= 2
    assert embedder.usage.tokens == 12


def test_requests_that_fail_cost_nothing(server: Server, embedder_of: Make) -> None:
    server.script.append(problem(500))
    server.answer = embeddings(4, tokens=5)
    embedder = embedder_of(budget=10)
    embedder.embed_texts(["x" * 20])
    assert embedder.usage == Usage(requests=2, tokens=5, retries=1)


# Deadlines.


def test_a_deadline_ends_a_request(server: Server, embedder_of: Make) -> None:
    server.answer = server.late()
    started = time.monotonic()
    with pytest.raises(BackendTimeout), likewise.deadline(0.1):
        embedder_of(max_batch=5).embed_texts(TEXTS)
    assert time.monotonic() - started < 5


def test_a_deadline_ends_an_answer_that_drips(server: Server, embedder_of: Make) -> None:
    server.answer = lambda seen: Reply(pieces=dripping(server.closing, 0.01))
    with pytest.raises(BackendTimeout), likewise.deadline(0.1):
        embedder_of().embed_texts(TEXTS)


def test_no_pause_is_begun_that_the_deadline_would_end(server: Server, embedder_of: Make, waits: list[float]) -> None:
    server.answer = problem(429, Retry_After="30")
    with pytest.raises(BackendTimeout, match=r"deadline leaves .* asked again in 3"), likewise.deadline(10):
        embedder_of().embed_texts(TEXTS)
    assert waits == []


def test_a_deadline_counts_while_other_requests_are_under_way(server: Server, embedder_of: Make) -> None:
    arrived = threading.Event()

    def late(seen: Seen) -> Reply:
        arrived.set()
        server.closing.wait(0.4)
        return embeddings(4)(seen)

    server.answer = late
    for embedder in (embedder_of(concurrency=1), embedder_of(budget=8)):
        arrived.clear()
        thread = threading.Thread(target=embedder.embed_texts, args=(["a" * 12],))
        thread.start()
        assert arrived.wait(10)
        with pytest.raises(BackendTimeout, match="while other requests"), likewise.deadline(0.05):
            embedder.embed_texts(["b" * 12])
        thread.join()
    assert len(server.seen) == 2


# The live model. Without a key these tests are not there; with one they fail rather than skip.

LIVE_KEY = os.environ.get("LIKEWISE_TEST_OPENAI_API_KEY")

if LIVE_KEY:

    def test_the_real_model() -> None:
        base_url = os.environ.get("LIKEWISE_TEST_OPENAI_BASE_URL", "https://api.openai.com/v1")
        embedder = OpenAIEmbedder(
            "text-embedding-3-small", dimensions=256, base_url=base_url, api_key=LIVE_KEY, budget=2_000
        )
        try:
            embedder.warm_up()
            heron, stork, train = embedder.embed_texts(["a heron in the water", "a stork on the roof", "a night train"])
            assert heron @ stork > heron @ train
            assert abs(float(np.linalg.norm(heron)) - 1) < 1e-3
            assert 0 < embedder.usage.tokens < 100
        finally:
            embedder.close()


# Put together.


def test_the_extra_is_named_where_it_is_missing(embedder_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(OptionalDependencyError, match=r"pip install 'likewise\[openai\]'"):
        embedder_of().embed_texts(["a"])


def test_a_text_that_the_server_refuses_is_left_out_and_the_others_are_stored(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKEWISE_OPENAI_BASE_URL", server.url)

    def answer(seen: Seen) -> Reply:
        if any("forbidden" in text for text in seen.texts):
            return problem(400, "against the policy")(seen)
        return embeddings(16)(seen)

    server.answer = answer
    records = [Record(f"r{i}", content=f"text {i}") for i in range(20)]
    records[6] = Record("policy", content="forbidden")
    records[11] = Record("empty", content="")
    records[12] = Record("long", content="word " * 300_000)
    with likewise.connect("memory://") as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="openai:leftout@16"))
        with pytest.raises(likewise.InvalidRecord, match=r"its text is refused .*against the policy") as caught:
            notes.upsert(records[:10])
        assert (caught.value.position, caught.value.record_id) == (6, "policy")
        report = notes.load(records, skip_invalid=True)
        assert [(r.position, r.id) for r in report.rejected][:2] == [(6, "policy"), (11, "empty")]
        assert notes.count() == 20 - len(report.rejected)
        server.answer = problem(401, "no")
        notes.load(r for r in records if r.id not in ("policy", "empty", "long"))
        with pytest.raises(ModelNotAvailable):
            notes.load([Record("new", content="new")], skip_invalid=True)
        assert notes.embedder is not None
        notes.embedder.close()


def test_a_collection_embeds_by_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_OPENAI_BASE_URL", server.url)
    with likewise.connect("memory://") as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="openai:collected@16"))
        server.answer = embeddings(16)
        notes.upsert([Record("a", content="a red dress"), Record("b", content="blue sky")])
        assert notes.search("a red dress", top_k=1)[0].id == "a"
        with pytest.raises(likewise.InvalidRecord, match=r"record 'c' \(number 0\): its text is empty"):
            notes.upsert(Record("c", content=""))
    assert load_embedder("openai:collected@16") is notes.embedder
    load_embedder("openai:collected@16").close()
    assert server.sizes == [2, 1]


def test_the_environment_names_the_server_and_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    embedder = named("tiny@4")
    with pytest.raises(ModelNotAvailable):
        server.script.append(problem(401))
        embedder.embed_texts(["a"])
    monkeypatch.setenv("OPENAI_API_KEY", "sk-everybody")
    embedder.embed_texts(["a"])  # the key is read when it is needed
    monkeypatch.setenv("LIKEWISE_OPENAI_API_KEY", "sk-likewise")
    embedder.embed_texts(["a"])
    embedder.close()
    assert [seen.headers.get("authorization") for seen in server.seen] == [
        None,
        "Bearer sk-everybody",
        "Bearer sk-likewise",
    ]


def test_a_key_for_all_programs_is_not_sent_to_a_server_of_ours_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKEWISE_OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-everybody")
    embedder = named("tiny@4")
    embedder.embed_texts(["a"])
    embedder.close()
    assert "authorization" not in server.seen[0].headers
