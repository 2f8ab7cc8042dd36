"""Models over HTTP, when something goes wrong: what is asked for again and when, connections that end, answers that are none."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from likewise import ModelNotAvailable, ModelUnreachable
from likewise.embedding import OpenAIEmbedder, Usage

from .openai_server import Answer, Reply, Seen, Server, as_json, dripping, embeddings, problem, serving, vectors_of

Make = Callable[..., OpenAIEmbedder]
TEXTS = [f"text number {n}" for n in range(10)]


# Retries.


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_a_busy_or_failing_server_is_asked_again(
    status: int, server: Server, embedder_of: Make, waits: list[float]
) -> None:
    server.script.extend([problem(status), problem(status), problem(status)])
    embedder = embedder_of()
    assert np.array_equal(embedder.embed_texts(TEXTS), vectors_of(TEXTS, 4))
    assert len(server.seen) == 4
    assert embedder.usage == Usage(requests=4, tokens=sum(map(len, TEXTS)), retries=3)
    assert len(waits) == 3
    assert all(0 <= wait <= longest for wait, longest in zip(waits, (0.5, 1.0, 2.0), strict=True))


def test_pauses_grow_and_are_by_chance(server: Server, embedder_of: Make, waits: list[float]) -> None:
    server.answer = problem(500)
    with pytest.raises(ModelUnreachable):
        embedder_of(max_retries=12, retry_for=600).embed_texts(["a"])
    assert len(set(waits)) == 12
    assert max(waits) <= 20
    assert sum(waits[6:]) > sum(waits[:3])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "0"}, 0.0),
        ({"retry_after_ms": "1500", "Retry_After": "9"}, 1.5),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m2.5s"}, 62.5),
        ({"x_ratelimit_remaining_tokens": "2", "x_ratelimit_reset_tokens": "6s"}, 6.0),
        ({"x_ratelimit_reset_requests": "20ms", "x_ratelimit_reset_tokens": "3s"}, 3.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "5"}, 5.0),
    ],
)
def test_the_server_says_how_long_to_wait(
    headers: dict[str, str], seconds: float, server: Server, embedder_of: Make, waits: list[float]
) -> None:
    server.script.append(problem(429, **headers))
    embedder_of().embed_texts(TEXTS)
    assert len(waits) == 1
    assert seconds <= waits[0] <= seconds + 1


def test_a_date_says_how_long_to_wait(server: Server, embedder_of: Make, waits: list[float]) -> None:
    server.script.append(problem(503, Retry_After=formatdate(time.time() + 30, usegmt=True)))
    server.script.append(problem(503, Retry_After=formatdate(time.time() - 30, usegmt=True)))
    embedder_of().embed_texts(TEXTS)
    assert 25 <= waits[0] <= 32
    assert 0 <= waits[1] <= 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "soon"},
        {"Retry_After": "-5"},
        {"Retry_After": "nan"},
        {"x_ratelimit_reset_tokens": "1e9", "x_ratelimit_reset_requests": "x"},
        {"x_ratelimit_remaining_requests": "9", "x_ratelimit_reset_requests": "1m"},
        {"x_ratelimit_remaining_tokens": "90000", "x_ratelimit_reset_tokens": "1m"},
    ],
)
def test_what_says_nothing_of_a_wait_is_passed_over(
    headers: dict[str, str], server: Server, embedder_of: Make, waits: list[float]
) -> None:
    server.script.append(problem(429, **headers))
    embedder_of().embed_texts(TEXTS)
    assert waits[0] <= 0.5


def test_it_really_waits(server: Server, embedder_of: Make) -> None:
    server.script.append(problem(429, retry_after_ms="50"))
    embedder = embedder_of()
    embedder._server.wait = threading.Event.wait
    started = time.monotonic()
    embedder.embed_texts(TEXTS)
    assert time.monotonic() - started >= 0.05


def test_nobody_waits_on_when_another_part_of_the_call_has_failed(server: Server, embedder_of: Make) -> None:
    asked = threading.Event()

    def busy(seen: Seen) -> Reply:
        asked.set()
        return problem(503, Retry_After="100")(seen)

    def failing(seen: Seen) -> Reply:
        asked.wait(10)
        return problem(401)(seen)

    server.answer = lambda seen: busy(seen) if seen.texts == ["a"] else failing(seen)
    embedder = embedder_of(max_batch=1, concurrency=2)
    embedder._server.wait = threading.Event.wait
    started = time.monotonic()
    with pytest.raises(ModelNotAvailable, match="refuses the key"):
        embedder.embed_texts(["a", "b"])
    assert time.monotonic() - started < 20


def test_a_limit_that_outlasts_the_retries_is_an_error_of_its_own(server: Server, embedder_of: Make) -> None:
    server.answer = problem(429, "slow down")
    with pytest.raises(ModelUnreachable, match=r"3 attempts .*status 429: slow down.*max_retries=2") as caught:
        embedder_of(max_retries=2).embed_texts(TEXTS)
    assert caught.value.retryable
    assert (caught.value.attempts, caught.value.retry_after, caught.value.model) == (3, None, "openai:tiny@4")
    assert len(server.seen) == 3


def test_a_wait_longer_than_retries_may_last_is_not_begun(
    server: Server, embedder_of: Make, waits: list[float]
) -> None:
    server.answer = problem(429, Retry_After="3600")
    with pytest.raises(ModelUnreachable, match=r"wants us to wait 3\.6e\+03 s") as caught:
        embedder_of().embed_texts(TEXTS)
    assert (caught.value.attempts, caught.value.retry_after) == (1, 3600.0)
    assert waits == []


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (problem(400, "no such", param="model"), r"refuses \(status 400\): no such"),
        (problem(400, "not so many", param="dimensions"), "not so many"),
        (problem(400, "what", code="model_not_found"), "what"),
        (problem(401), "refuses the key"),
        (problem(403, "not in your country"), "refuses access .*not in your country"),
        (problem(404, "nothing here"), "status 404.*nothing here; look at the model's name"),
        (problem(405), "status 405"),
        (problem(429, "pay", code="insufficient_quota"), "no quota left"),
        (problem(429, "pay", kind="insufficient_quota"), "no quota left"),
        (lambda seen: as_json({"detail": "odd"}, 418), "status 418.*odd"),
        (lambda seen: Reply(b"<html>no</html>", 404), "status 404"),
    ],
)
def test_what_will_not_mend_itself_is_not_asked_again(
    answer: Answer, complaint: str, server: Server, embedder_of: Make, waits: list[float]
) -> None:
    server.answer = answer
    with pytest.raises(ModelNotAvailable, match=complaint) as caught:
        embedder_of().embed_texts(TEXTS)
    assert not caught.value.retryable
    assert caught.value.model == "openai:tiny@4"
    assert len(server.seen) == 1
    assert waits == []


def test_faults_by_chance_change_nothing(server: Server, embedder_of: Make) -> None:
    chance = random.Random(11)

    def cut(seen: Seen) -> Reply:
        return Reply(good(seen).body, cut=chance.randrange(100))

    good = embeddings(4)
    turned = embeddings(4, order=lambda items: items[::-1])
    faults: list[Answer] = [good, turned, problem(500), problem(429), problem(429, Retry_After="1"), cut]
    server.answer = lambda seen: chance.choice(faults)(seen)
    texts = [f"text {n}" for n in range(300)]
    embedder = embedder_of(max_batch=5, max_retries=100, retry_for=3_600)
    assert np.array_equal(embedder.embed_texts(texts), vectors_of(texts, 4))
    assert embedder.usage.requests == len(server.seen) == 60 + embedder.usage.retries
    assert embedder.usage.tokens == sum(map(len, texts))


# Connections.


def test_an_answer_that_does_not_come_is_asked_for_again(server: Server, embedder_of: Make) -> None:
    server.script.append(server.late())
    embedder = embedder_of(timeout=0.5)
    assert np.array_equal(embedder.embed_texts(TEXTS), vectors_of(TEXTS, 4))
    assert embedder.usage.retries == 1


def test_a_server_that_never_answers_is_an_error(server: Server, embedder_of: Make) -> None:
    server.answer = embeddings(4)
    server.script.extend([server.late()] * 3)
    with pytest.raises(ModelUnreachable, match=r"3 attempts.*no answer in 0\.05 s"):
        embedder_of(timeout=0.05, max_retries=2).embed_texts(TEXTS)


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_is_cut_off_is_asked_for_again(status: int, server: Server, embedder_of: Make) -> None:
    def cut(seen: Seen) -> Reply:
        whole = embeddings(4)(seen)
        return Reply(whole.body, status, cut=len(whole.body) // 2)

    server.script.append(cut)
    embedder = embedder_of()
    assert np.array_equal(embedder.embed_texts(TEXTS), vectors_of(TEXTS, 4))
    assert embedder.usage.retries == 1


def test_an_answer_that_drips_is_not_waited_for(server: Server, embedder_of: Make) -> None:
    server.script.append(lambda seen: Reply(pieces=dripping(server.closing, 0.01)))
    embedder = embedder_of(timeout=0.5)
    assert np.array_equal(embedder.embed_texts(TEXTS), vectors_of(TEXTS, 4))
    assert embedder.usage.retries == 1


def test_a_server_that_is_not_there_is_an_error(embedder_of: Make, waits: list[float]) -> None:
    with serving() as other:
        url = other.url
    with pytest.raises(ModelUnreachable, match=f"{url}.*3 attempts.*ConnectError"):
        embedder_of(base_url=url, max_retries=2).embed_texts(TEXTS)
    assert len(waits) == 2


def test_closing_ends_connections_and_using_connects_again(server: Server, embedder_of: Make) -> None:
    embedder = embedder_of()
    embedder.close()
    for _ in range(2):
        embedder.embed_texts(["a"])
        embedder.close()
        embedder.close()
    assert len(server.seen) == 2


def test_closing_lets_requests_end_that_are_under_way(server: Server, embedder_of: Make) -> None:
    arrived = threading.Event()

    def slow(seen: Seen) -> Reply:
        arrived.set()
        time.sleep(0.1)
        return embeddings(4)(seen)

    server.answer = slow
    embedder = embedder_of()
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(embedder.embed_texts(TEXTS)))
    thread.start()
    assert arrived.wait(10)
    embedder.close()
    thread.join()
    assert np.array_equal(results[0], vectors_of(TEXTS, 4))
    assert embedder.usage.retries == 0


def test_a_redirect_is_not_followed(server: Server, embedder_of: Make) -> None:
    with serving() as other:
        server.answer = lambda seen: Reply(b"", 307, {"Location": f"{other.url}/embeddings?secret=1"})
        with pytest.raises(
            ModelNotAvailable, match=r"redirects to http://127\.0\.0\.1, which is not followed"
        ) as caught:
            embedder_of().embed_texts(TEXTS)
        assert "secret" not in str(caught.value)
        assert other.seen == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the key of a server at 127.0.0.1, its certificate, and that of the authority, which nobody knows."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("certificate") / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
    authority.cert_pem.write_to_path(file, append=True)
    return file


def test_a_certificate_that_nobody_vouches_for_is_refused(
    embedder_of: Make, waits: list[float], certificate: Path
) -> None:
    with serving(certificate=certificate) as other:
        with pytest.raises(ModelNotAvailable, match="certificate cannot be trusted"):
            embedder_of(base_url=other.url).embed_texts(TEXTS)
        assert other.seen == []
    assert waits == []


def test_a_certificate_that_the_machine_trusts_is_taken(
    embedder_of: Make, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(certificate=certificate) as other:
        embedder = embedder_of(base_url=other.url)
        assert np.array_equal(embedder.embed_texts(TEXTS), vectors_of(TEXTS, 4))
        embedder.close()


# Answers that are not as they should be.


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (embeddings(3), "text 0: the vector has 3 numbers, the model's card says 4; if 3 is right"),
        (embeddings(4, order=lambda items: items[:-1]), "9 vectors for 10 texts"),
        (embeddings(4, order=lambda items: [*items, items[0]]), "11 vectors for 10 texts"),
        (embeddings(4, order=lambda items: [*items[:-1], items[0]]), "not numbered from 0 to 9"),
        (embeddings(4, order=lambda items: [i | {"index": i["index"] + 1} for i in items]), "not numbered"),
        (embeddings(4, order=lambda items: [i | {"index": True} for i in items]), "not numbered"),
        (embeddings(4, data=None), "no list 'data'"),
        (embeddings(4, data=["x"] * 10), "not an object"),
        (
            embeddings(4, order=lambda items: [*items[:6], items[6] | {"embedding": "!"}, *items[7:]]),
            "text 6: .*cannot be read",
        ),
        (embeddings(4, order=lambda items: [i | {"embedding": "AAAA"} for i in items]), "text 0: .*cannot be read"),
        (embeddings(4, order=lambda items: [i | {"embedding": None} for i in items]), "neither a list"),
        (embeddings(4, order=lambda items: [i | {"embedding": ["1", "2", "3", "4"]} for i in items]), "neither a list"),
        (embeddings(4, order=lambda items: [i | {"embedding": [True] * 4} for i in items]), "neither a list"),
        (embeddings(4, order=lambda items: [i | {"embedding": [[1.0]] * 4} for i in items]), "neither a list"),
        (embeddings(4, order=lambda items: [i | {"embedding": [1, [2], 3, 4]} for i in items]), "cannot be read"),
        (embeddings(4, order=lambda items: [i | {"embedding": [10**40, 1, 1, 1]} for i in items]), "neither a list"),
        (
            embeddings(4, order=lambda items: [i | {"embedding": [1e300, 1, 1, 1]} for i in items]),
            "text 0: .*not finite",
        ),
        (embeddings(4, order=lambda items: [i | {"embedding": []} for i in items]), "0 numbers"),
        (
            embeddings(
                4, order=lambda items: [*items[:2], items[2] | {"embedding": "AACAPwAAwH8AAIA/AACAPw=="}, *items[3:]]
            ),
            "text 2: the vector has numbers that are not finite",
        ),
        (lambda seen: Reply(b"<html>welcome</html>"), "not JSON; is the base_url"),
        (lambda seen: Reply(b"[" * 60_000), "not JSON"),
        (lambda seen: Reply(b"\xff\xfe"), "not JSON"),
        (lambda seen: Reply(b"[]"), "no list 'data'"),
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: Answer, complaint: str, server: Server, embedder_of: Make) -> None:
    server.answer = answer
    with pytest.raises(ModelNotAvailable, match=f"gives what it should not: .*{complaint}"):
        embedder_of().embed_texts(TEXTS)
    assert len(server.seen) == 1


def test_a_text_of_a_later_batch_is_named_by_its_place_in_the_call(server: Server, embedder_of: Make) -> None:
    server.script.extend([server.answer, embeddings(5)])
    with pytest.raises(ModelNotAvailable, match="text 5: the vector has 5"):
        embedder_of(max_batch=5, concurrency=1).embed_texts(TEXTS)


def test_an_endless_answer_is_not_read_to_its_end(server: Server, embedder_of: Make) -> None:
    server.answer = lambda seen: Reply(pieces=(b" " * 65_536 for _ in range(1_000)))
    with pytest.raises(ModelNotAvailable, match=r"more than [0-9,]+ bytes"):
        embedder_of().embed_texts(TEXTS)
    assert server.sent < 20_000_000


def test_an_endless_complaint_is_not_read_to_its_end(server: Server, embedder_of: Make) -> None:
    server.answer = lambda seen: Reply(status=404, pieces=(b"x" * 65_536 for _ in range(1_000)))
    with pytest.raises(ModelNotAvailable, match="404"):
        embedder_of().embed_texts(TEXTS)
    assert server.sent < 20_000_000


def test_warming_up_looks_at_the_server_and_at_the_dimension(server: Server, embedder_of: Make) -> None:
    embedder_of().warm_up()
    assert server.sizes == [1]
    server.answer = embeddings(8)
    with pytest.raises(ModelNotAvailable, match=r"8 numbers.*card says 4"):
        embedder_of().warm_up()
