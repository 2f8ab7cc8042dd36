"""The contract's prose and its tests are one list, and backends neither leave out a test nor change a signature."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from likewise.abc import AsyncCollection, AsyncVectorStore, Collection, VectorStore
from likewise.backends.faiss import AsyncFaissCollection, AsyncFaissStore, FaissCollection, FaissStore
from likewise.backends.memory import AsyncMemoryStore, MemoryStore
from likewise.backends.memory.collection import MemoryCollection
from likewise.backends.memory.collection_async import AsyncMemoryCollection
from likewise.backends.postgres import AsyncPostgresStore, PostgresStore
from likewise.backends.postgres.collection import PostgresCollection
from likewise.backends.postgres.collection_async import AsyncPostgresCollection
from likewise.testing.suite import StoreContract
from likewise.testing.suite_async import AsyncStoreContract

ROOT = Path(__file__).parents[2]
SUITES: list[type] = [StoreContract, AsyncStoreContract]
IMPLEMENTATIONS: list[tuple[type, type]] = [
    (VectorStore, FaissStore),
    (VectorStore, MemoryStore),
    (VectorStore, PostgresStore),
    (AsyncVectorStore, AsyncFaissStore),
    (AsyncVectorStore, AsyncMemoryStore),
    (AsyncVectorStore, AsyncPostgresStore),
    (Collection, FaissCollection),
    (Collection, MemoryCollection),
    (Collection, PostgresCollection),
    (AsyncCollection, AsyncFaissCollection),
    (AsyncCollection, AsyncMemoryCollection),
    (AsyncCollection, AsyncPostgresCollection),
]


def clauses_of(suite: type) -> list[int]:
    found = []
    for name, test in inspect.getmembers(suite, inspect.isfunction):
        if name.startswith("test_"):
            match = re.match(r"C(\d+): \S", test.__doc__ or "")
            assert match, f"the docstring of {suite.__name__}.{name} begins with no clause"
            found.append(int(match.group(1)))
    return sorted(found)


@pytest.mark.parametrize("suite", SUITES)
def test_every_clause_has_one_test_and_every_test_a_clause(suite: type) -> None:
    prose = [
        int(n)
        for n in re.findall(r"^\*\*C(\d+)\.\*\*", (ROOT / "docs" / "contract.md").read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(prose) == list(range(1, len(prose) + 1))
    assert clauses_of(suite) == sorted(prose)


def test_no_backend_overrides_a_test_quietly() -> None:
    overridden = []
    for path in (ROOT / "tests" / "contract").glob("*.py"):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if re.match(r"\s+(async )?def test_|\s+test_\w+\s*=", line):
                overridden.append(f"{path.name}:{number}: {line.strip()}")
    assert overridden == [], "a deviation is declared as a strict, reasoned xfail, not by another test"


@pytest.mark.parametrize(("interface", "implementation"), IMPLEMENTATIONS)
def test_public_methods_have_the_interface_s_signatures(interface: type, implementation: type) -> None:
    for name, declared in inspect.getmembers(interface, inspect.isfunction):
        if name.startswith("_"):
            continue
        ours = inspect.signature(getattr(implementation, name))
        theirs = inspect.signature(declared)
        assert list(ours.parameters.values()) == [
            p.replace(annotation=ours.parameters[p.name].annotation) for p in theirs.parameters.values()
        ], f"{implementation.__name__}.{name}{ours} is not {interface.__name__}.{name}{theirs}"
