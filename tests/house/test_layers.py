"""The floors of the house: a floor imports only what lies below it, and rooms of one floor do not know each other."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"

#: The floors, from the top; the rooms of a floor are strangers to each other. A room is a module or a package under ``likewise``;
#: ``x_async`` is in the room of its twin ``x``. A new module is added here, on the lowest floor that it needs.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("service",),
    ("worker", "marketing"),
    ("ingest", "search", "typed", "testing"),
    ("codecs",),
    ("backends", "embedding"),
    ("abc",),
    ("filters", "records", "schema"),
    ("calibration", "metrics"),
    ("_deadline",),
    ("errors",),
    ("_json",),
)

#: Where the house is put together: these may import every floor, and be imported from above the backends.
COMPOSITION_ROOT = frozenset({"__init__", "_connect", "__main__"})

#: From this floor down there are only the standard library and NumPy: drivers and models stay in the rooms above.
PLAIN_FROM = "abc"
PLAIN_PACKAGES = frozenset({"numpy"})

#: Drivers, frameworks and model runtimes, and the only rooms that may import them.
OWN_ROOMS: dict[str, frozenset[str]] = {
    "psycopg": frozenset({"backends", "testing", "worker", "marketing"}),
    "psycopg_pool": frozenset({"backends", "testing", "worker"}),
    "sqlalchemy": frozenset({"backends", "testing", "marketing"}),
    "faiss": frozenset({"backends"}),
    "fastapi": frozenset({"service"}),
    "onnxruntime": frozenset({"embedding"}),
    "tokenizers": frozenset({"embedding"}),
    "huggingface_hub": frozenset({"embedding"}),
    "torch": frozenset({"embedding"}),
    "open_clip": frozenset({"embedding"}),
    "sentence_transformers": frozenset({"embedding"}),
    "fastembed": frozenset({"embedding"}),
    "httpx": frozenset({"embedding"}),
    "pypdfium2": frozenset({"ingest"}),
    "charset_normalizer": frozenset({"ingest"}),
    "watchfiles": frozenset({"ingest"}),
    "py3langid": frozenset({"ingest"}),
    "rapidocr": frozenset({"ingest"}),
    "cv2": frozenset({"ingest"}),
    "xlrd": frozenset({"ingest"}),
    "rich": frozenset({"cli"}),
}


def level(room: str) -> int:
    """The height of a room's floor, from 0 at the bottom."""
    for height, rooms in enumerate(reversed(FLOORS)):
        if room in rooms:
            return height
    raise AssertionError(
        f"likewise.{room} is on no floor: add it to FLOORS in tests/house/test_layers.py, on the lowest floor that it needs"
    )


def room_of(module: str) -> str:
    """The room of a module, given by its name below ``likewise``: ``backends.memory.store`` is in ``backends``."""
    return module.split(".", maxsplit=1)[0].removesuffix("_async") or "__init__"


def name_of(path: Path) -> str:
    """A file's name as a module below ``likewise``; a package is named without its ``__init__``, the top one ``__init__``."""
    parts = path.relative_to(SRC / "likewise").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted((SRC / "likewise").rglob("*.py"))}


def imports(module: str, path: Path) -> Iterator[tuple[int, str]]:
    """Each import of a module, of functions too, as (line, absolute name); those that only a type checker sees are left out."""
    package = ["likewise", *module.split(".")] if module != "__init__" else ["likewise"]
    if path.name != "__init__.py":
        package = package[:-1]
    for node in at_run_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full.removeprefix("likewise.") in MODULES else base


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, but for the bodies of ``if TYPE_CHECKING:``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for other in child.orelse:
                yield from at_run_time(other)
        else:
            yield from at_run_time(child)


def house_problem(module: str, imported: str) -> str | None:
    """Why one module of the house may not import another, both named below ``likewise``; None if it may."""
    importer, target = room_of(module), room_of(imported)
    if importer in COMPOSITION_ROOT:
        return None
    if target in COMPOSITION_ROOT:
        return None if level(importer) > level("backends") else "the top of the package stands above this floor"
    if importer == target:
        mine, other = module.split(".")[1:2], imported.split(".")[1:2]
        if importer == "backends" and is_backend(other) and mine != other:
            return "a backend is a stranger to the other backends"
        return None
    if level(target) < level(importer):
        return None
    return (
        "siblings do not know each other" if level(target) == level(importer) else "a floor imports what lies below it"
    )


def is_backend(name: list[str]) -> bool:
    return bool(name) and f"backends.{name[0]}" in MODULES and MODULES[f"backends.{name[0]}"].name == "__init__.py"


def outside_problem(module: str, package: str) -> str | None:
    """Why a module may not import a package from outside the house; None if it may."""
    room = room_of(module)
    if package in OWN_ROOMS and room not in OWN_ROOMS[package]:
        return f"{package} stays in {', '.join(sorted(OWN_ROOMS[package]))}"
    if room in COMPOSITION_ROOT or level(room) > level(PLAIN_FROM):
        return None
    if package in sys.stdlib_module_names or package in PLAIN_PACKAGES:
        return None
    return f"{PLAIN_FROM} and what lies below it use the standard library and {', '.join(PLAIN_PACKAGES)} only"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    path = MODULES[module]
    problems: list[str] = []
    if room_of(module) not in COMPOSITION_ROOT:
        level(room_of(module))
    for line, name in imports(module, path):
        top, _, rest = name.partition(".")
        problem = house_problem(module, rest or "__init__") if top == "likewise" else outside_problem(module, top)
        if problem:
            problems.append(f"{path.relative_to(SRC.parent)}:{line}: imports {name}: {problem}")
    assert not problems, "\n".join(problems)


def test_no_package_lacks_its_init() -> None:
    folders = {path.parent for path in (SRC / "likewise").rglob("*.py")}
    missing = sorted(str(folder.relative_to(SRC)) for folder in folders if not (folder / "__init__.py").exists())
    assert not missing


@pytest.mark.parametrize(
    ("module", "imported", "allowed"),
    [
        ("search.semantic", "abc", True),
        ("search.semantic", "ingest.pipeline", False),
        ("abc.stores_async", "backends.memory.store", False),
        ("filters", "records", False),
        ("typed_async", "abc.stores_async", True),
        ("cli.main", "__init__", True),
        ("backends.memory.store", "__init__", False),
        ("_connect_async", "backends.postgres.store_async", True),
    ],
)
def test_the_rules_themselves(module: str, imported: str, allowed: bool) -> None:
    assert (house_problem(module, imported) is None) is allowed


def test_backends_are_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    init = Path("__init__.py")
    monkeypatch.setitem(MODULES, "backends.one", init)
    monkeypatch.setitem(MODULES, "backends.two", init)
    assert house_problem("backends.one.store", "backends.two.store") is not None
    assert house_problem("backends.one.store", "backends.two") is not None
    assert house_problem("backends", "backends.one.store") is not None
    assert house_problem("backends.one.store", "backends.one._rows") is None


def test_what_only_a_type_checker_sees_is_not_an_import(tmp_path: Path) -> None:
    module = tmp_path / "search.py"
    module.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    import torch\n"
        "else:\n"
        "    import json\n"
        "def f():\n"
        "    from . import errors\n"
        "    from likewise import metrics, connect\n"
    )
    found = [name for _, name in imports("search", module)]
    assert found == ["typing", "json", "likewise.errors", "likewise.metrics", "likewise"]
