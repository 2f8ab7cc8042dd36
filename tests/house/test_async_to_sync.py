"""The generator of synchronous twins, construct by construct."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "async_to_sync.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("async_to_sync", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = _load()

TWIN = tool.Twin("src/likewise/thing_async.py", "src/likewise/thing.py")
HEADER = "# Generated from src/likewise/thing_async.py by tools/async_to_sync.py; edit that file instead.\n"


def convert(text: str, **words: str) -> str:
    twin = tool.Twin(TWIN.source, TWIN.target, words=words)
    converted = tool.convert(
        dedent(text), twin, twins=[twin], by_hand={"src/likewise/abc/running_async.py": "src/likewise/abc/running.py"}
    )
    assert converted.text.startswith(HEADER)
    return str(converted.text.removeprefix(HEADER))


@pytest.mark.parametrize(
    ("source", "twin"),
    [
        ("async def f():\n    await g()  # why\n", "def f():\n    g()  # why\n"),
        ("async def f():\n    return (await g()).h\n", "def f():\n    return g().h\n"),
        ("async def f():\n    return (await g())[0] + h(await g())\n", "def f():\n    return g()[0] + h(g())\n"),
        ("async def f():\n    return (await a or await b)\n", "def f():\n    return (a or b)\n"),
        ("async def f():\n    return -(await (a or b))\n", "def f():\n    return -((a or b))\n"),
        (
            "async def f():\n    return [(await g(\n        1,\n    ))[0]]\n",
            "def f():\n    return [g(\n        1,\n    )[0]]\n",
        ),
        ("async def f():\n    async with a as b, c:\n        pass\n", "def f():\n    with a as b, c:\n        pass\n"),
        ("async def f():\n    async for x in y:\n        yield x\n", "def f():\n    for x in y:\n        yield x\n"),
        ("async def f():\n    return [x async for x in y if await x]\n", "def f():\n    return [x for x in y if x]\n"),
        ("async def f():\n    return {k: v async for k, v in y}\n", "def f():\n    return {k: v for k, v in y}\n"),
        ("class _AsyncX(AsyncX): ...\n", "class _X(X): ...\n"),
        ("def f() -> AsyncIterator[AsyncIterable[int]]: ...\n", "def f() -> Iterator[Iterable[int]]: ...\n"),
        ("def f() -> AsyncGenerator[int, None]: ...\n", "def f() -> Generator[int, None, None]: ...\n"),
        ("def f() -> abc.AsyncGenerator[int]: ...\n", "def f() -> abc.Generator[int, None, None]: ...\n"),
        ("F = Callable[[int], Awaitable[str | None]]\n", "F = Callable[[int], str | None]\n"),
        ("c = AsyncConnection\np = AsyncConnectionPool\n", "c = Connection\np = ConnectionPool\n"),
        ("async def __aenter__(self): ...\n", "def __enter__(self): ...\n"),
        ("async def __aexit__(self, *e): ...\n", "def __exit__(self, *e): ...\n"),
        (
            "def __aiter__(self): ...\nasync def __anext__(self): ...\n",
            "def __iter__(self): ...\ndef __next__(self): ...\n",
        ),
        ("async def f():\n    raise StopAsyncIteration\n", "def f():\n    raise StopIteration\n"),
        ("async def f():\n    await anext(x)\n    await x.aclose()\n", "def f():\n    next(x)\n    x.close()\n"),
        ("@asynccontextmanager\nasync def f(): ...\n", "@contextmanager\ndef f(): ...\n"),
        ("def f() -> AbstractAsyncContextManager[int]: ...\n", "def f() -> AbstractContextManager[int]: ...\n"),
        (
            "async def f(s=AsyncExitStack()):\n    await s.enter_async_context(x)\n",
            "def f(s=ExitStack()):\n    s.enter_context(x)\n",
        ),
        ("asynchronous = awaiting = Asyncio = 1\n", "asynchronous = awaiting = Asyncio = 1\n"),
        ("é = 'é'; q = AsyncGenerator[é, Awaitable[int]]\n", "é = 'é'; q = Generator[é, int, None]\n"),
    ],
)
def test_code(source: str, twin: str) -> None:
    assert convert(source) == twin


def test_imports_of_asyncio_become_what_is_needed() -> None:
    assert convert("import asyncio\nlock = asyncio.Lock()\n") == "import threading\nlock = threading.Lock()\n"
    assert convert("def f():\n    import asyncio\n    return asyncio.sleep, asyncio.Lock\n") == (
        "def f():\n    import threading\n    import time\n    return time.sleep, threading.Lock\n"
    )
    assert convert("import asyncio\nx = 1\n") == "x = 1\n"


@pytest.mark.parametrize(
    "source", ["import asyncio as a\n", "import asyncio, os\n", "from asyncio import sleep\n", "import asyncio.locks\n"]
)
def test_other_imports_of_asyncio_are_refused(source: str) -> None:
    with pytest.raises(tool.ConversionError, match=r"thing_async\.py:1: write `import asyncio`"):
        convert(source)


def test_a_use_of_asyncio_without_a_replacement_is_refused() -> None:
    with pytest.raises(tool.ConversionError, match=r"thing_async\.py:2: asyncio\.gather has no synchronous form"):
        convert("import asyncio\nx = asyncio.gather()\n")


def test_modules_of_the_table_are_renamed() -> None:
    source = (
        'from likewise.thing_async import f\nimport likewise.abc.running_async as r\npatch("likewise.thing_async.f")\n'
    )
    assert (
        convert(source) == 'from likewise.thing import f\nimport likewise.abc.running as r\npatch("likewise.thing.f")\n'
    )
    assert convert("from likewise.other_async import f\n") == "from likewise.other_async import f\n"


def test_strings_and_comments() -> None:
    source = '''\
        """AsyncStore: `await store.close()`, and await the result.

        ::

            async with AsyncStore() as store:
                await store.aclose()
        """
        # an AsyncStore; `await f(x)`
        x = f"{await f(x)} {await y} AsyncStore"
        async_ = "asynchronous, async and __aenter__"
        '''
    twin = '''\
        """Store: `store.close()`, and await the result.

        ::

            with Store() as store:
                store.close()
        """
        # an Store; `f(x)`
        x = f"{f(x)} {y} Store"
        async_ = "asynchronous, async and __enter__"
        '''
    assert convert(source) == dedent(twin)


def test_fstrings_are_the_same_to_every_python() -> None:
    source = """x = f"{(await z).b!r:>{await w}} {{x}}" f"é{f'{await q()}'}" + (await z).b\n"""
    twin = """x = f"{(z).b!r:>{w}} {{x}}" f"é{f'{q()}'}" + z.b\n"""
    assert convert(f"async def f():\n    {source}") == f"def f():\n    {twin}"


def test_a_quoted_generator_is_refused() -> None:
    with pytest.raises(tool.ConversionError, match="take the quotes off"):
        convert('def f() -> "AsyncGenerator[int, None]": ...\n')


def test_words_of_one_module() -> None:
    source = 'async def connect_async(): "An asynchronous store."\n'
    assert convert(source, connect_async="connect", asynchronous="blocking") == 'def connect(): "An blocking store."\n'


def test_markers() -> None:
    source = """\
        import asyncio
        import os  # async-only
        # sync-only: import sys

        async def f():
            # async-only: begin
            async with asyncio.timeout(1):
                # sync-only: never
                pass
            # async-only: end
            # sync-only: print("blocking")  # loudly
            return "# async-only"
        """
    twin = """\
        import sys

        def f():
            print("blocking")  # loudly
            return "# async-only"
        """
    assert convert(source) == dedent(twin)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("# async-only: begin\n", "1: no '# async-only: end' follows"),
        ("# async-only: end\n", "1: there is no"),
        ("# async-only: begin\n# async-only: begin\n", "2: the block begun at line 1 has not ended"),
        ("# async-only: start\n", "1: unknown marker"),
        ("# async-only\n", "1: .* stands at the end of the line"),
        ("x = 1  # sync-only: y = 2\n", "1: .* stands on a line of its own"),
    ],
)
def test_wrong_markers_are_refused(source: str, message: str) -> None:
    with pytest.raises(tool.ConversionError, match=message):
        convert(source)


def test_marks_of_pytest_go() -> None:
    source = """\
        pytestmark = pytest.mark.asyncio

        @pytest.mark.asyncio(loop_scope="module")
        @pytest.mark.slow
        async def test_x(): ...

        @pytest_asyncio.fixture
        async def store(): ...
        """
    twin = """\

        @pytest.mark.slow
        def test_x(): ...

        @pytest.fixture
        def store(): ...
        """
    assert convert(source) == dedent(twin)


def test_a_twin_that_would_still_wait_is_refused() -> None:
    with pytest.raises(tool.ConversionError, match="is not Python"):
        convert("async def f():\n    return AsyncX\n", AsyncX="await")


# The command, on a project of its own.


def project(root: Path, text: str = "async def f() -> None: ...\n") -> Path:
    source = root / TWIN.source
    source.parent.mkdir(parents=True)
    source.write_text(text, encoding="utf-8")
    return root / str(TWIN.target)


def run(root: Path, *, check: bool = False, twin: object = TWIN, words: dict[str, str] | None = None) -> list[str]:
    problems = tool.run(check=check, root=root, twins=[twin], words=words or {}, by_hand={})
    return [str(problem) for problem in problems]


def test_a_twin_is_written_formatted_and_then_fresh(tmp_path: Path) -> None:
    target = project(
        tmp_path,
        "from collections.abc import AsyncIterator, Awaitable, Iterator\n\n"
        '__all__ = ["AsyncStore", "Codec", "f"]\n\nclass AsyncStore: ...\n\nclass Codec: ...\n\n'
        "async def f(x: Awaitable[int]) -> AsyncIterator[Iterator[int]]:\n    yield iter([ await x ])\n",
    )
    assert run(tmp_path) == []
    assert target.read_text(encoding="utf-8") == HEADER + (
        "from collections.abc import Iterator\n\n"
        '__all__ = ["Codec", "Store", "f"]\n\n\nclass Store: ...\n\n\nclass Codec: ...\n\n\n'
        "def f(x: int) -> Iterator[Iterator[int]]:\n    yield iter([x])\n"
    )
    assert run(tmp_path, check=True) == []


def test_what_only_async_code_must_spell_out_is_shortened(tmp_path: Path) -> None:
    target = project(tmp_path, "async def f():\n    async for x in y():\n        yield x\n")
    assert run(tmp_path) == []
    assert target.read_text(encoding="utf-8") == HEADER + "def f():\n    yield from y()\n"


def test_a_stale_twin_is_shown_with_its_diff_and_left_alone(tmp_path: Path) -> None:
    target = project(tmp_path)
    target.write_text("# Generated from somewhere\ndef g() -> None: ...\n", encoding="utf-8")
    [problem] = run(tmp_path, check=True)
    assert "src/likewise/thing.py is stale" in problem
    assert "-def g() -> None: ..." in problem
    assert "+def f() -> None: ..." in problem
    assert "def g" in target.read_text(encoding="utf-8")


def test_a_missing_twin_is_stale(tmp_path: Path) -> None:
    project(tmp_path)
    [problem] = run(tmp_path, check=True)
    assert "is stale" in problem


def test_a_file_written_by_hand_is_not_overwritten(tmp_path: Path) -> None:
    target = project(tmp_path)
    target.write_text("mine = 1\n", encoding="utf-8")
    assert run(tmp_path) == ["src/likewise/thing.py was written by hand; move it away, then run again"]
    assert target.read_text(encoding="utf-8") == "mine = 1\n"


def test_a_missing_source_is_a_problem(tmp_path: Path) -> None:
    assert run(tmp_path, check=True) == ["src/likewise/thing_async.py: missing source"]


def test_an_unused_word_is_a_problem(tmp_path: Path) -> None:
    project(tmp_path)
    words = {"anext": "next"}
    assert run(tmp_path, words=words) == ["tools/async_to_sync.py: no module uses 'anext' of WORDS"]
    twin = tool.Twin(TWIN.source, TWIN.target, words=words)
    assert run(tmp_path, twin=twin) == ["src/likewise/thing_async.py: no use of its word 'anext'"]


def test_a_source_outside_the_table_is_a_problem(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "src" / "stray_async.py").write_text("", encoding="utf-8")
    assert run(tmp_path) == ["src/stray_async.py is not in the table of tools/async_to_sync.py"]


def test_names_choose_twins() -> None:
    twins = [tool.Twin(f"src/{room}/store_async.py", f"src/{room}/store.py") for room in ("one", "two")]
    assert tool.selected(twins, []) == twins
    assert tool.selected(twins, ["store_async"]) == twins
    assert tool.selected(twins, ["src/one/store.py"]) == twins[:1]
    assert tool.selected(twins, ["two/store_async.py"]) == twins[1:]
    with pytest.raises(tool.ConversionError, match="is not in the table"):
        tool.selected(twins, ["tore"])


def test_the_command_reports_and_exits_1() -> None:
    done = subprocess.run(
        [sys.executable, TOOL, "--check", "no_such_module"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no_such_module is not in the table" in done.stderr


def test_the_table_itself() -> None:
    sources = [twin.source for twin in tool.TWINS]
    assert len(sources) == len(set(sources))
    assert not tool.table_problems(tool.TWINS, root=Path("nowhere"), by_hand={})
