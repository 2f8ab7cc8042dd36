"""What every file of the house keeps to: its length, its errors, its SQL, its place."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {p.relative_to(ROOT).as_posix(): p for p in sorted((ROOT / "src").rglob("*.py"))}
TESTS = {p.relative_to(ROOT).as_posix(): p for p in sorted((ROOT / "tests").rglob("*.py"))}
GENERATED = "# Generated from "

MOST_LINES = 500
#: Files that are longer, and why they are not cut.
LONGER: dict[str, str] = {}

#: The rooms of ``tests/``.
TEST_ROOMS = frozenset(
    {
        "house",
        "unit",
        "contract",
        "oracle",
        "postgres",
        "embedding",
        "worker",
        "models_torch",
        "service",
        "cli",
        "docs",
        "typing",
        "e2e",
    }
)

#: What looks like SQL: a statement or a clause where a text, a line or a bracket begins; ``{}`` is what an f-string fills in.
SQL = re.compile(
    r"""(?:^|[;(\n])\s*(?:
        select\s+(?:\*|\{\}|count\(|distinct\b|exists\b|1\b) | select\s[^.]*\bfrom\s
      | insert\s+into\b | update\s+\S+\s+set\b | delete\s+from\b | truncate\s
      | with\s+(?:recursive\s+)?\S+\s+as\s+(?:(?:not\s+)?materialized\s+)?\(
      | (?:create|drop|alter)\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+|unlogged\s+|unique\s+)?
        (?:table|index|schema|extension|database|function|procedure|trigger|view|materialized|type|role|user|sequence|policy|\{\}\s+\{\})(?!\w)
      | where\s+\{\} | order\s+by\s | limit\s+\{\} | set\s+(?:local|session)\s
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_can_be_read_in_one_sitting(name: str) -> None:
    text = SOURCES[name].read_text(encoding="utf-8")
    lines = text.count("\n")
    if text.startswith(GENERATED):
        return
    if name in LONGER:
        assert lines > MOST_LINES, f"{name} is short enough now: take it out of LONGER"
        return
    assert lines <= MOST_LINES, (
        f"{name} has {lines} lines; cut it, or give the reason in LONGER of tests/house/test_files.py"
    )


# Errors are not swallowed.


def swallowed(module: ast.Module) -> Iterator[int]:
    """The lines of handlers that catch everything and say nothing of it."""
    for node in ast.walk(module):
        match node:
            case ast.ExceptHandler():
                found = catches_all(node.type) and all(map(says_nothing, node.body))
            case ast.Call():
                found = ast.unparse(node.func).split(".")[-1] == "suppress" and any(map(catches_all, node.args))
            case _:
                continue
        if found:
            yield node.lineno


def catches_all(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(catches_all(item) for item in caught.elts)
    return caught is None or ast.unparse(caught).split(".")[-1] in {"Exception", "BaseException"}


def says_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Continue() | ast.Break():
            return True
        case ast.Expr(value=ast.Constant()) | ast.Return(value=None | ast.Constant()):
            return True
        case ast.Return(value=ast.List(elts=[]) | ast.Tuple(elts=[]) | ast.Dict(keys=[])):
            return True
        case _:
            return False


@pytest.mark.parametrize("name", SOURCES)
def test_no_error_is_swallowed(name: str) -> None:
    assert not [f"{name}:{line}" for line in swallowed(tree(SOURCES[name]))]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("try: f()\nexcept Exception: pass", 1),
        ("try: f()\nexcept: return_ = 1", 0),
        ("try: f()\nexcept (ValueError, Exception):\n    ...", 1),
        ("def g():\n    try: f()\n    except Exception: return []", 1),
        ("def g():\n    try: f()\n    except BaseException as e: raise X() from e", 0),
        ("with contextlib.suppress(Exception): f()", 1),
        ("try: f()\nexcept KeyError: pass", 0),
    ],
)
def test_swallowing_is_seen(body: str, count: int) -> None:
    assert len(list(swallowed(ast.parse(body)))) == count


# SQL is composed, never pasted together.


def pasted_sql(module: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of each SQL statement put together by an f-string, ``%``, ``+`` or ``str.format``; messages may quote SQL."""
    for node in outside_messages(module):
        text = pasted(node)
        if text is not None and SQL.search(text):
            yield getattr(node, "lineno", 0), text


def outside_messages(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) or (isinstance(child, ast.Call) and is_message(child)):
            continue
        yield from outside_messages(child)


def is_message(call: ast.Call) -> bool:
    """Whether a call writes a log line or a warning, or makes an error."""
    name = ast.unparse(call.func).split(".")
    return name[0] in {"logger", "log", "_log", "_logger", "warnings"} or name[-1].endswith(
        (
            "Error",
            "Mismatch",
            "NotFound",
            "Unavailable",
            "UnsupportedFeature",
            "InvalidArgument",
            "InvalidRecord",
            "InvalidFilter",
        )
    )


def pasted(node: ast.AST) -> str | None:
    match node:
        case ast.JoinedStr(values=values):
            if not any(isinstance(v, ast.FormattedValue) for v in values):
                return None
            return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in values)
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod() | ast.Add()):
            return f"{text}{{}}" if isinstance(node.op, ast.Add) else text.replace("%s", "{}")
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            return text
        case _:
            return None


@pytest.mark.parametrize("name", [n for n in SOURCES if n.startswith("src/likewise/")])
def test_no_sql_is_pasted_together(name: str) -> None:
    found = [f"{name}:{line}: {text[:80]!r}" for line, text in pasted_sql(tree(SOURCES[name]))]
    assert not found, "compose it with psycopg.sql, or put it into a .sql file:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ('execute(f"select * from {t}")', True),
        ('execute(f"SELECT id, vector FROM {t}")', True),
        ('q = f"insert into {t} values (1)"', True),
        ('q = f"update {t} set x = 1"', True),
        ('q = f"drop table if exists {t}"', True),
        ('q = f"create {kind} {name} on x"', True),
        ('q = "delete from %s" % t', True),
        ('q = "alter table " + t', True),
        ('q = "select * from {}".format(t)', True),
        ('q = sql.SQL("select * from {}").format(t)', False),
        ('q = "select 1"', False),
        ('q = f"select 1 from t"', False),
        ('raise X(f"create table {t} failed")', False),
        ('logger.warning(f"drop table {t} failed")', False),
        ('text = f"{x}: set it with ALTER ROLE in psql, create table {t} first"', False),
        ('q = f"with x as (select {c})"', True),
        ('q = f" where {c} = 1"', True),
        ('text = f"create it with ensure_collection({t})"', False),
        ('text = f"update the record {t}, or select another"', False),
    ],
)
def test_pasted_sql_is_seen(code: str, seen: bool) -> None:
    assert bool(list(pasted_sql(ast.parse(code)))) is seen


# Tests have their rooms.


@pytest.mark.parametrize("name", TESTS)
def test_a_test_file_is_in_its_room(name: str) -> None:
    room, *rest = name.removeprefix("tests/").split("/")
    if not rest:
        assert room in {"__init__.py", "conftest.py"}, "a test lies in a room of tests/"
        return
    assert room in TEST_ROOMS, (
        f"tests/{room} is no room of the house; add it to TEST_ROOMS with its purpose in ARCHITECTURE.md"
    )
    tested = re.search(
        r"^(?:async )?def test_|^    (?:async )?def test_", TESTS[name].read_text(encoding="utf-8"), re.MULTILINE
    )
    if tested:
        assert rest[-1].startswith("test_"), f"pytest would not find the tests of {name}"


def test_test_files_are_told_apart_by_name() -> None:
    # Outside of packages, pytest and mypy know a test file by its name alone.
    loose = [path.name for path in TESTS.values() if not (path.parent / "__init__.py").exists()]
    assert not [name for name, count in Counter(loose).items() if count > 1]


# Generated files say so, and the tool knows them.


@pytest.mark.parametrize(
    "name", [n for n, p in {**SOURCES, **TESTS}.items() if p.read_text(encoding="utf-8").startswith(GENERATED)]
)
def test_a_generated_file_is_in_the_table(name: str) -> None:
    table = (ROOT / "tools" / "async_to_sync.py").read_text(encoding="utf-8")
    assert f'"{name}"' in table, f"{name} has no line in the table of tools/async_to_sync.py"
