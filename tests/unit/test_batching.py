"""Callers that ask one embedder at the same time: few calls, each its own rows, and nobody pays for another's mistake."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

import likewise
from likewise import (
    AsyncCollection,
    BackendTimeout,
    BudgetExceeded,
    Collection,
    CollectionSpec,
    Embedder,
    InvalidArgument,
    ModelCard,
    ModelNotAvailable,
    Record,
    SearchResults,
)
from likewise._deadline import deadline, remaining
from likewise.abc import batching
from likewise.abc.batching import MOST_TEXTS, Batcher, passages_of, queries_of
from likewise.embedding import OpenAIEmbedder, register_embedder

WORDS = [f"word {number}" for number in range(50)]
who: ContextVar[str] = ContextVar("who", default="nobody")


@dataclass(eq=False)
class Slow(Embedder):
    """Knows each of ``WORDS`` as a direction of its own, refuses what begins with "bad", and answers when it is let."""

    calls_at_once: int = 1
    calls: list[list[str]] = field(default_factory=list)
    contexts: list[tuple[str, float | None]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _of_thread: threading.local = field(default_factory=threading.local)

    @property
    def card(self) -> ModelCard:
        return ModelCard("slow", 50, ("text",))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._lock:
            self.calls.append(list(texts))
            self.contexts.append((who.get(), remaining()))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            assert self.gate.wait(30)
            for place, text in enumerate(texts):
                if text.startswith("bad"):
                    raise InvalidArgument(f"text {place} is bad")
                if text.startswith("foreign"):
                    raise KeyError(text)
                if text.startswith("dear"):
                    raise BudgetExceeded("too dear", model="slow", budget=1, spent=1, needed=len(texts))
                if text.startswith("gone"):
                    raise ModelNotAvailable("the model is gone", model="slow")
            # One array for all answers in a thread: it is written over by the next call.
            if not hasattr(self._of_thread, "answer"):
                self._of_thread.answer = np.zeros((64, 50), np.float32)
            rows: NDArray[np.float32] = self._of_thread.answer[: len(texts)]
            rows[:] = 0
            for row, text in zip(rows, texts, strict=True):
                row[int(text.split()[-1])] = 1.0
            return rows
        finally:
            with self._lock:
                self._now -= 1


@pytest.fixture
def model() -> Iterator[Slow]:
    model = Slow()
    register_embedder("slow", lambda _: model)
    yield model
    model.gate.set()


@pytest.fixture
def words(model: Slow) -> Iterator[Collection]:
    with likewise.connect("memory://") as store:
        collection = store.ensure_collection(CollectionSpec("words", embedder="slow"))
        collection.upsert(Record(word, np.eye(50, dtype=np.float32)[place]) for place, word in enumerate(WORDS))
        yield collection


@pytest.fixture
async def words_async(model: Slow) -> AsyncIterator[AsyncCollection]:
    async with await likewise.connect_async("memory://") as store:
        collection = await store.ensure_collection(CollectionSpec("words", embedder="slow"))
        await collection.upsert(Record(word, np.eye(50, dtype=np.float32)[place]) for place, word in enumerate(WORDS))
        yield collection


def until_so(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; it fails after half a minute."""
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.002)


def waiting(model: Slow) -> int:
    return len(queries_of(model)._waiting)


async def searching(model: Slow, words: AsyncCollection, texts: Sequence[str]) -> list[asyncio.Task[SearchResults]]:
    """A task for each text: the first one's call is under way, the others wait for it to end."""
    tasks = [asyncio.create_task(words.search(texts[0], top_k=1))]
    await asyncio.to_thread(until_so, lambda: len(model.calls) == 1)
    tasks += [asyncio.create_task(words.search(text, top_k=1)) for text in texts[1:]]
    await asyncio.to_thread(until_so, lambda: waiting(model) == len(texts) - 1)
    return tasks


async def test_fifty_tasks_take_three_calls_and_each_gets_its_own_answer(
    model: Slow, words_async: AsyncCollection
) -> None:
    tasks = await searching(model, words_async, WORDS)
    model.gate.set()
    found = await asyncio.gather(*tasks)
    assert [results[0].id for results in found] == WORDS
    assert [results[0].distance for results in found] == pytest.approx([0.0] * 50)
    assert [len(call) for call in model.calls] == [1, MOST_TEXTS, 17]
    assert model.most_at_once == 1


def test_fifty_threads_take_three_calls_and_each_gets_its_own_answer(model: Slow, words: Collection) -> None:
    with ThreadPoolExecutor(50) as threads:
        futures = [threads.submit(words.search, word, top_k=1) for word in WORDS]
        until_so(lambda: waiting(model) == 49)
        model.gate.set()
        assert [future.result()[0].id for future in futures] == WORDS
    assert [len(call) for call in model.calls] == [1, MOST_TEXTS, 17]


def test_one_caller_is_answered_in_its_own_thread(model: Slow, words: Collection) -> None:
    model.gate.set()
    token = who.set("me")
    try:
        assert words.search("word 3", top_k=1)[0].id == "word 3"
    finally:
        who.reset(token)
    assert model.contexts == [("me", None)]
    assert queries_of(model)._under_way == 0


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("bad 7", InvalidArgument, "text 0 is bad"),
        ("foreign 7", KeyError, "foreign 7"),
        ("dear 7", BudgetExceeded, "too dear"),
    ],
)
async def test_one_bad_input_fails_its_own_caller_only(
    model: Slow, words_async: AsyncCollection, text: str, error: type[Exception], says: str
) -> None:
    tasks = await searching(model, words_async, [*WORDS[:20], text, *WORDS[20:30]])
    model.gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    failed = found.pop(20)
    assert isinstance(failed, error)
    assert says in str(failed), "the position is that in the caller's own texts"
    assert [results[0].id for results in found if not isinstance(results, BaseException)] == WORDS[:30]
    # 1 alone, 30 together, then halves: far fewer than one by one.
    assert len(model.calls) <= 2 + 2 * 5


async def test_what_is_wrong_with_the_model_is_told_to_all_at_once(model: Slow, words_async: AsyncCollection) -> None:
    tasks = await searching(model, words_async, ["word 1", "gone 1", "gone 2", "word 2"])
    model.gate.set()
    first, *rest = await asyncio.gather(*tasks, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert len(model.calls) == 2
    assert all(isinstance(error, ModelNotAvailable) and error.model == "slow" for error in rest)
    assert [str(error) for error in rest] == ["the model is gone"] * 3
    assert len({id(error) for error in rest}) == 3, "each caller raises an error of its own"


async def test_a_task_that_is_cancelled_disturbs_nobody(model: Slow, words_async: AsyncCollection) -> None:
    tasks = await searching(model, words_async, WORDS[:10])
    for place in (0, 4):  # One whose call is under way, and one that waits.
        tasks[place].cancel()
    await asyncio.wait([tasks[0], tasks[4]])
    assert tasks[0].cancelled()
    assert tasks[4].cancelled()
    model.gate.set()
    rest = [place for place in range(10) if place not in (0, 4)]
    assert [(await tasks[place])[0].id for place in rest] == [WORDS[place] for place in rest]
    assert model.calls == [["word 0"], [WORDS[place] for place in rest]]


async def test_a_deadline_ends_the_waiting_of_one_task_only(model: Slow, words_async: AsyncCollection) -> None:
    async def hurried(word: str) -> object:
        with deadline(0.05):
            return await words_async.search(word)

    patient = await searching(model, words_async, WORDS[:5])
    with pytest.raises(BackendTimeout, match="deadline"):
        await hurried("word 9")
    model.gate.set()
    assert [(await task)[0].id for task in patient] == WORDS[:5]
    assert model.calls[1:] == [WORDS[1:5]]
    assert model.contexts[1][1] is None, "the call of those who have time has no deadline"


def test_a_deadline_ends_the_waiting_of_one_thread_only(model: Slow, words: Collection) -> None:
    def hurried() -> object:
        with deadline(0.05):
            return words.search("word 9")

    with ThreadPoolExecutor(6) as threads:
        patient = [threads.submit(words.search, word, top_k=1) for word in WORDS[:5]]
        until_so(lambda: waiting(model) == 4)
        with pytest.raises(BackendTimeout, match="the model was busy"):
            threads.submit(hurried).result()
        model.gate.set()
        assert [future.result()[0].id for future in patient] == WORDS[:5]
    assert sorted(model.calls[1]) == sorted(set(WORDS[:5]) - set(model.calls[0]))


def test_a_joint_call_has_the_time_of_the_one_who_has_most(model: Slow) -> None:
    batcher = Batcher()

    def ask(word: str, seconds: float) -> object:
        with deadline(seconds):
            return batcher.call(model.embed_queries, [word])

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(ask, "word 0", 50)
        until_so(lambda: len(model.calls) == 1)
        rest = [threads.submit(ask, "word 1", 60)]
        until_so(lambda: len(batcher._waiting) == 1)
        rest.append(threads.submit(ask, "word 2", 600))
        until_so(lambda: len(batcher._waiting) == 2)
        model.gate.set()
        for future in (first, *rest):
            future.result()
    left = model.contexts[1][1]
    assert left is not None
    assert 60 < left <= 600


async def test_few_passages_go_together_and_many_go_alone(model: Slow, words_async: AsyncCollection) -> None:
    few = [asyncio.create_task(words_async.upsert(Record("new 0", content=WORDS[0])))]
    await asyncio.to_thread(until_so, lambda: len(model.calls) == 1)
    few += [asyncio.create_task(words_async.upsert(Record(f"new {i}", content=WORDS[i]))) for i in range(1, 6)]
    await asyncio.to_thread(until_so, lambda: len(passages_of(model)._waiting) == 5)
    many = asyncio.create_task(words_async.upsert([Record(f"more {i}", content=WORDS[i]) for i in range(20)]))
    await asyncio.to_thread(until_so, lambda: len(model.calls) == 2)
    model.gate.set()
    await asyncio.gather(*few, many)
    assert sorted(len(call) for call in model.calls) == [1, 5, 20]
    for i in range(6):
        found = [result.id for result in await words_async.search(WORDS[i], top_k=3)]
        assert sorted(found) == [f"more {i}", f"new {i}", WORDS[i]]


async def test_tasks_and_threads_share_one_call(model: Slow) -> None:
    batcher = queries_of(model)
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(batcher.call, model.embed_queries, [word]) for word in WORDS[:4]]
        await asyncio.to_thread(until_so, lambda: waiting(model) == 3)
        mine = asyncio.wrap_future(batcher.start(model.embed_queries, WORDS[4:6]))
        model.gate.set()
        assert (await mine).argmax(axis=1).tolist() == [4, 5]
        assert [int(future.result().argmax()) for future in futures] == [0, 1, 2, 3]
    assert sorted(map(len, model.calls)) == [1, 5]


def test_a_model_that_calls_another_one_does_not_wait_for_itself(model: Slow) -> None:
    outer, inner = Batcher(), Batcher()
    model.gate.set()

    def nested(texts: Sequence[str]) -> NDArray[np.float32]:
        return inner.call(model.embed_queries, texts)

    futures = [outer.start(nested, [word]) for word in WORDS] + [Batcher().start(nested, [word]) for word in WORDS]
    assert [int(future.result(30).argmax()) for future in futures] == [*range(50), *range(50)]


def test_too_few_rows_are_no_answer_for_others() -> None:
    def forgetful(texts: Sequence[str]) -> NDArray[np.float32]:
        started.set()
        assert gate.wait(30)
        return np.array([[float(texts[-1])]], np.float32)

    gate, started, batcher = threading.Event(), threading.Event(), Batcher()
    futures = [batcher.start(forgetful, [str(number)]) for number in range(5)]
    gate.set()
    assert [float(future.result(30)[0, 0]) for future in futures] == [0, 1, 2, 3, 4]


def test_a_server_far_away_is_asked_several_times_at_once(model: Slow) -> None:
    assert OpenAIEmbedder("text-embedding-3-small", concurrency=3).calls_at_once == 3
    batcher = Batcher(calls=2)
    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(batcher.call, model.embed_queries, [word]) for word in WORDS[:8]]
        until_so(lambda: len(batcher._waiting) == 6)
        assert len(model.calls) == 2
        model.gate.set()
        for future in futures:
            future.result()
    assert model.most_at_once == 2


def test_it_goes_with_the_model() -> None:
    model = Slow()
    assert queries_of(model) is queries_of(model)
    assert queries_of(model) is not passages_of(model)
    key = id(model)
    assert key in batching._batchers
    del model
    gc.collect()
    assert key not in batching._batchers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python warns of a fork beside threads from 3.12 on")
def test_a_fork_has_threads_of_its_own(model: Slow) -> None:
    model.gate.set()
    assert queries_of(model).start(model.embed_queries, ["word 1"]).result(30).shape == (1, 50)
    child = os.fork()
    if child == 0:  # pragma: no cover
        status = 1
        try:
            rows = queries_of(model).start(model.embed_queries, ["word 2"]).result(10)
            status = int(rows.argmax() != 2)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
