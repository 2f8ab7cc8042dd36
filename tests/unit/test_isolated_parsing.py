"""A document that hangs, crashes or eats memory is an error of that document, and the pool goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from likewise import InvalidArgument
from likewise.ingest import Limits, Parsed, ParserPool, Unreadable, parse, parse_isolated
from likewise.ingest.parsing import ParseOptions

from . import documents

HERE = "unit.test_isolated_parsing:"


def behave(data: bytes, *, path: Path, limits: Limits, options: ParseOptions, on_scan: Callable[[], None]) -> Parsed:
    """A parser for the tests, run in the pool's processes: it does what the document says."""
    match data.decode().split():
        case ["sleep"]:
            time.sleep(600)
        case ["abort"]:
            os.abort()
        case ["exit"]:
            os._exit(7)
        case ["eat"]:
            eaten = [bytes(16 * 1024 * 1024) for _ in range(1_000)]
            return Parsed(text=str(len(eaten)), media_type="text/plain")
        case ["raise"]:
            raise KeyError("what a library raises")
        case ["scans", count]:
            for _ in range(int(count)):
                time.sleep(0.3)
                on_scan()
        case ["print"]:
            print("not an answer", flush=True)
            os.write(1, b"nor this\n")
        case _:
            pass
    return Parsed(text=str(os.getpid()), media_type="text/plain")


def reason(pool: ParserPool, what: bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        pool.parse(what, path=Path("some/file"))
    assert caught.value.path == Path("some/file")
    assert caught.value.stage == ("parsing" if what == b"raise" else "isolating")
    return caught.value.reason


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.skipif(sys.platform == "win32", reason="signals have no names there")
def test_a_process_that_dies_or_hangs_is_replaced() -> None:
    with ParserPool(seconds=1.5, parser=HERE + "behave") as pool:
        first = pool.parse(b"fine", path=Path("x")).text
        assert pool.parse(b"fine", path=Path("x")).text == first  # one process serves them all
        assert int(first) != os.getpid()
        assert f"ended by signal {signal.SIGABRT.value}" in reason(pool, b"abort")
        assert "ended with exit code 7" in reason(pool, b"exit")
        started = time.monotonic()
        assert reason(pool, b"sleep") == "it took longer than 1.5 seconds to parse, and was given up"
        assert time.monotonic() - started < 20
        assert "its parser failed (KeyError: 'what a library raises')" in reason(pool, b"raise")
        second = pool.parse(b"fine", path=Path("x")).text
        assert second != first
    assert gone(int(first))
    assert gone(int(second))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
def test_an_idle_process_that_was_ended_is_nobody_s_fault() -> None:
    with ParserPool(parser=HERE + "behave") as pool:
        first = int(pool.parse(b"fine", path=Path("x")).text)
        os.kill(first, signal.SIGKILL)
        time.sleep(0.2)
        assert int(pool.parse(b"fine", path=Path("x")).text) != first


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there the address space is bounded")
def test_memory_is_bounded() -> None:
    with ParserPool(memory=256 * 1024 * 1024, parser=HERE + "behave") as pool:
        assert reason(pool, b"eat") == "it took more than 268,435,456 bytes of memory to parse"
        assert pool.parse(b"fine", path=Path("x")).text


@pytest.mark.slow
def test_each_scanned_page_has_the_time_of_a_document_up_to_the_limit_of_scans() -> None:
    with ParserPool(seconds=1.5, limits=Limits(scans=8), parser=HERE + "behave") as pool:
        started = time.monotonic()
        assert pool.parse(b"scans 8", path=Path("x")).text.isdigit()
        assert time.monotonic() - started > 1.5
        with pytest.raises(Unreadable, match="more answers than the limits allow") as caught:
            pool.parse(b"scans 9", path=Path("x"))
        assert caught.value.stage == "isolating"
        assert pool.parse(b"fine", path=Path("x")).text.isdigit()


def test_what_a_parser_prints_is_no_answer() -> None:
    with ParserPool(parser=HERE + "behave") as pool:
        assert pool.parse(b"print", path=Path("x")).text.isdigit()


def test_threads_share_a_pool() -> None:
    with ParserPool() as pool, ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(lambda n: pool.parse(f"text {n}".encode(), path=Path("x")).text, range(40)))
    assert texts == [f"text {n}" for n in range(40)]


def test_the_answer_is_what_parse_gives() -> None:
    data = documents.pdf("One", "Two", info="/Title(On engines)/Keywords(a, b)")
    with ParserPool() as pool:
        assert pool.parse(data, path=Path("x.pdf")) == parse(data, path=Path("x.pdf"))
    with ParserPool(limits=Limits(pages=1)) as pool:
        with pytest.raises(Unreadable, match="2 pages, at most 1") as caught:
            pool.parse(data, path=Path("x.pdf"))
        assert caught.value.stage == "parsing"


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "whatever"
    path.write_bytes(documents.docx("<w:p><w:r><w:t>Words</w:t></w:r></w:p>"))
    assert parse_isolated(path).text == "Words"
    with ParserPool() as pool:
        assert parse_isolated(path, pool=pool).title == "A title"
    with pytest.raises(Unreadable, match="it cannot be read") as caught:
        parse_isolated(tmp_path / "missing")
    assert (caught.value.stage, caught.value.path) == ("reading", tmp_path / "missing")


def test_what_a_pool_refuses() -> None:
    with pytest.raises(InvalidArgument, match="seconds must be greater than 0"):
        ParserPool(seconds=0)
    with pytest.raises(InvalidArgument, match="it is in bytes"):
        ParserPool(memory=512)
    pool = ParserPool()
    pool.close()
    with pytest.raises(InvalidArgument, match="closed"):
        pool.parse(b"x", path=Path("x"))
