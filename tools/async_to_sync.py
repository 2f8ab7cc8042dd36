#!/usr/bin/env python3
"""Writes the synchronous twins of modules that are written by hand with ``async`` and ``await``.

    tools/async_to_sync.py                    write every twin of the table below
    tools/async_to_sync.py store_async …      write these only: a source's or a target's path, the end of one, or a name
    tools/async_to_sync.py --check            write nothing; exit 1 with a diff if a twin is stale or the table is wrong

What is rewritten, in code:

- ``async def``, ``async with``, ``async for`` (comprehensions too) and ``await`` lose their word;
- names that begin with ``Async`` lose it: ``AsyncStore`` is ``Store``, ``AsyncIterator`` is ``Iterator``;
- ``AsyncGenerator[Y, S]`` is ``Generator[Y, S, None]``, ``Awaitable[T]`` is ``T``;
- the words of ``PYTHON`` and ``WORDS``, and of the twin's own ``words``;
- names of modules that the table lists: ``stores_async`` is ``stores``;
- ``import asyncio`` becomes the imports that its replacements need; any other use of asyncio is an error;
- ``@pytest.mark.asyncio`` goes.

In strings and comments: the same words and names, ``await f(…)`` and ``async def|with|for``. In the source, comments steer the tool::

    # async-only: begin           the lines up to ``# async-only: end`` are left out of the twin
    statement  # async-only       this line is left out of the twin
    # sync-only: statement        the twin gets this statement in the comment's place

Comments and layout are kept; ruff sorts the imports and formats the result.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import keyword
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Twin:
    """A module written by hand, the module generated from it, and the words replaced in this module only."""

    source: str
    target: str
    words: Mapping[str, str] = field(default_factory=dict)


#: Every generated module. To add one, add its line here and run this tool.
TWINS: tuple[Twin, ...] = (
    Twin("src/likewise/abc/stores_async.py", "src/likewise/abc/stores.py"),
    Twin("src/likewise/abc/vector_stores_async.py", "src/likewise/abc/vector_stores.py"),
    Twin("src/likewise/abc/calibrating_async.py", "src/likewise/abc/calibrating.py"),
    Twin("src/likewise/abc/documents_async.py", "src/likewise/abc/documents.py"),
    Twin("src/likewise/abc/record_documents_async.py", "src/likewise/abc/record_documents.py"),
    Twin("src/likewise/abc/embedding_async.py", "src/likewise/abc/embedding.py"),
    Twin("src/likewise/abc/loading_async.py", "src/likewise/abc/loading.py"),
    Twin("src/likewise/embedding/pipeline_async.py", "src/likewise/embedding/pipeline.py"),
    Twin("src/likewise/typed_async.py", "src/likewise/typed.py"),
    Twin("src/likewise/backends/memory/store_async.py", "src/likewise/backends/memory/store.py"),
    Twin("src/likewise/backends/memory/collection_async.py", "src/likewise/backends/memory/collection.py"),
    Twin("src/likewise/backends/postgres/store_async.py", "src/likewise/backends/postgres/store.py"),
    Twin("src/likewise/backends/postgres/collection_async.py", "src/likewise/backends/postgres/collection.py"),
    Twin("src/likewise/backends/postgres/connection_async.py", "src/likewise/backends/postgres/connection.py"),
    Twin("src/likewise/backends/postgres/loading_async.py", "src/likewise/backends/postgres/loading.py"),
    Twin("src/likewise/backends/postgres/searching_async.py", "src/likewise/backends/postgres/searching.py"),
    Twin("src/likewise/backends/postgres/documents_async.py", "src/likewise/backends/postgres/documents.py"),
    Twin("src/likewise/backends/postgres/health_async.py", "src/likewise/backends/postgres/health.py"),
    Twin("src/likewise/backends/postgres/indexing_async.py", "src/likewise/backends/postgres/indexing.py"),
    Twin("src/likewise/backends/postgres/tuning_async.py", "src/likewise/backends/postgres/tuning.py"),
    Twin("src/likewise/backends/postgres/query_cache_async.py", "src/likewise/backends/postgres/query_cache.py"),
    Twin("src/likewise/backends/postgres/borrowed_async.py", "src/likewise/backends/postgres/borrowed.py"),
    Twin("src/likewise/backends/faiss/store_async.py", "src/likewise/backends/faiss/store.py"),
    Twin("src/likewise/backends/faiss/collection_async.py", "src/likewise/backends/faiss/collection.py"),
    Twin("src/likewise/backends/faiss/_searching_async.py", "src/likewise/backends/faiss/_searching.py"),
    Twin("src/likewise/backends/faiss/verifying_async.py", "src/likewise/backends/faiss/verifying.py"),
    Twin("src/likewise/testing/suite_async.py", "src/likewise/testing/suite.py"),
    Twin("src/likewise/testing/clauses_collections_async.py", "src/likewise/testing/clauses_collections.py"),
    Twin("src/likewise/testing/clauses_records_async.py", "src/likewise/testing/clauses_records.py"),
    Twin("src/likewise/testing/clauses_loading_async.py", "src/likewise/testing/clauses_loading.py"),
    Twin("src/likewise/testing/clauses_embedding_async.py", "src/likewise/testing/clauses_embedding.py"),
    Twin("src/likewise/testing/clauses_filters_async.py", "src/likewise/testing/clauses_filters.py"),
    Twin("src/likewise/testing/clauses_search_async.py", "src/likewise/testing/clauses_search.py"),
    Twin("src/likewise/testing/clauses_similarity_async.py", "src/likewise/testing/clauses_similarity.py"),
    Twin(
        "src/likewise/search/answering_async.py",
        "src/likewise/search/answering.py",
        words={"answer_async": "answer"},
    ),
    Twin(
        "src/likewise/_connect_async.py",
        "src/likewise/_connect.py",
        words={"connect_async": "connect", "attach_async": "attach"},
    ),
)

#: Modules under ``src`` whose twins are written by hand too, since they work by another mechanism; names of modules follow.
BY_HAND: dict[str, str] = {
    "src/likewise/abc/running_async.py": "src/likewise/abc/running.py",
}

#: Words of Python's own asynchronous protocols, replaced wherever they stand; a module may come to need any of them.
PYTHON: dict[str, str] = {
    "StopAsyncIteration": "StopIteration",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclosing": "closing",
    "anext": "next",
    "asyncio.Lock": "threading.Lock",
    "asyncio.sleep": "time.sleep",
    "enter_async_context": "enter_context",
    "pytest_asyncio.fixture": "pytest.fixture",
}

#: Other words replaced in every module. One that no module uses is an error: take it out, or put it in when it is needed.
WORDS: dict[str, str] = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncFilteredSearch": "FilteredSearch",
    "AsyncIndexBuilder": "IndexBuilder",
    "AsyncLoad": "Load",
    "AsyncTuning": "Tuning",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "asynccontextmanager": "contextmanager",
}

ROOT = Path(__file__).resolve().parent.parent

#: Modules that may not be left in a twin; their import is replaced by what the replacements need.
_ASYNC_MODULES = ("asyncio", "pytest_asyncio")
#: What ruff may mend in a twin: what the rewriting itself unsettles, and nothing else.
_MENDED = "I,F401,F811,RUF022,RUF023,RUF100,SIM117,UP028"

_ASYNC_NAME = re.compile(r"^(_*)Async(?=[A-Z])")
_ASYNC_NAME_IN_TEXT = re.compile(r"\b(_*)Async(?=[A-Z])")
_AWAIT_IN_TEXT = re.compile(r"\bawait (?=[A-Za-z_][\w.]*[.(\[])")
_AWAIT_IN_FSTRING = re.compile(r"(?<=[{(\[])await ")
_ASYNC_IN_TEXT = re.compile(r"\basync (?=(?:def|with|for) )")
_BEGIN, _END, _LINE = "# async-only: begin", "# async-only: end", "# async-only"
_SYNC_ONLY = "# sync-only: "


class ConversionError(Exception):
    """A source, or the table, that cannot be converted; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A twin's text, and the words of the tables that its source used."""

    text: str
    used: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: int
    text: str
    start: int
    end: int
    line: int


class _Source:
    """A module's text, its tokens and its tree, with positions as offsets into the text."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines = text.splitlines(keepends=True)
        self.offsets = [0]
        for line in self.lines:
            self.offsets.append(self.offsets[-1] + len(line))
        try:
            self.tree = ast.parse(text)
        except SyntaxError as error:
            raise ConversionError(f"{name}:{error.lineno}: {error.msg}") from error
        self.tokens = list(self._tokens())

    def error(self, line: int, message: str) -> ConversionError:
        return ConversionError(f"{self.name}:{line}: {message}")

    def _tokens(self) -> Iterator[_Token]:
        """Yield the tokens, an f-string as one of them: Python 3.12 splits it, 3.11 does not."""
        fstring_start = getattr(tokenize, "FSTRING_START", -1)
        fstring_end = getattr(tokenize, "FSTRING_END", -1)
        depth = start = first_line = 0
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            begin = self._offset(*token.start)
            end = self._offset(*token.end)
            if token.type == fstring_start:
                if depth == 0:
                    start, first_line = begin, token.start[0]
                depth += 1
            elif token.type == fstring_end:
                depth -= 1
                if depth == 0:
                    yield _Token(tokenize.STRING, self.text[start:end], start, end, first_line)
            elif depth == 0:
                yield _Token(token.type, token.string, begin, end, token.start[0])

    def _offset(self, line: int, column: int) -> int:
        return self.offsets[min(line - 1, len(self.lines))] + column

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self._from_bytes(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._from_bytes(node.end_lineno, node.end_col_offset)

    def _from_bytes(self, line: int, column: int) -> int:
        return self.offsets[line - 1] + len(self.lines[line - 1].encode()[:column].decode())


def convert(
    text: str,
    twin: Twin,
    *,
    twins: Sequence[Twin] = TWINS,
    words: Mapping[str, str] = WORDS,
    by_hand: Mapping[str, str] = BY_HAND,
) -> Converted:
    """Rewrite a source's text; the result is not formatted yet.

    Raises ``ConversionError`` for what has no synchronous form in the tables.
    """
    table = {**PYTHON, **words, **twin.words}
    source = _Source(twin.source, _without_asyncio_marks(_Source(twin.source, _by_markers(twin.source, text))))
    pairs = {**by_hand, **{t.source: t.target for t in twins}}
    modules = {PurePosixPath(path).stem: PurePosixPath(target).stem for path, target in pairs.items()}
    rewriter = _Rewriter(source, table, modules)
    result = rewriter.run()
    _prove_synchronous(twin.source, result)
    header = f"# Generated from {twin.source} by tools/async_to_sync.py; edit that file instead.\n"
    return Converted(header + result, frozenset(rewriter.used))


def _by_markers(name: str, text: str) -> str:
    """Obey the ``async-only`` and ``sync-only`` comments."""
    source = _Source(name, text)
    lines = [*source.lines]
    begun = 0
    for token in source.tokens:
        if token.kind != tokenize.COMMENT:
            continue
        index, comment = token.line - 1, token.text.rstrip()
        line = source.lines[index]
        alone = line.strip() == comment
        if comment == _BEGIN:
            if begun:
                raise source.error(token.line, f"the block begun at line {begun} has not ended")
            begun = token.line
        elif comment == _END:
            if not begun:
                raise source.error(token.line, f"there is no {_BEGIN!r} before this line")
            lines[begun - 1 : token.line] = [""] * (token.line - begun + 1)
            begun = 0
        elif comment == _LINE:
            if alone:
                raise source.error(token.line, f"{_LINE!r} stands at the end of the line that is left out")
            lines[index] = ""
        elif comment.startswith(_SYNC_ONLY) and not begun:
            if not alone:
                raise source.error(token.line, f"{_SYNC_ONLY!r} stands on a line of its own")
            lines[index] = line.replace(_SYNC_ONLY, "", 1)
        elif comment.startswith(("# async-only", "# sync-only")) and not begun:
            raise source.error(token.line, f"unknown marker {comment!r}")
    if begun:
        raise source.error(begun, f"no {_END!r} follows")
    return "".join(lines)


def _without_asyncio_marks(source: _Source) -> str:
    """Take out ``@pytest.mark.asyncio`` and ``pytestmark = pytest.mark.asyncio``."""
    marks: list[tuple[int, int]] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            marks += [(d.lineno, d.end_lineno or d.lineno) for d in node.decorator_list if _is_asyncio_mark(d)]
        elif isinstance(node, ast.Assign) and _is_asyncio_mark(node.value):
            marks.append((node.lineno, node.end_lineno or node.lineno))
    dropped = {line for first, last in marks for line in range(first, last + 1)}
    return "".join(line for number, line in enumerate(source.lines, 1) if number not in dropped)


def _is_asyncio_mark(node: ast.expr) -> bool:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node) == "pytest.mark.asyncio"


class _Rewriter:
    """Collects edits of a source's text, then applies them."""

    def __init__(self, source: _Source, table: Mapping[str, str], modules: Mapping[str, str]) -> None:
        self.source = source
        self.table = table
        self.modules = modules
        self.used: set[str] = set()
        self.edits: list[tuple[int, int, str]] = []
        self.imports: list[ast.Import] = []
        self.needed: set[str] = set()
        # Dotted words begin with the name of a module; the longest word is tried first.
        self.in_text = re.compile(
            "|".join(
                rf"(?<![\w.]){re.escape(w)}(?!\w)" if "." in w else rf"(?<!\w){re.escape(w)}(?!\w)"
                for w in self._by_length()
            )
            or r"(?!)"
        )
        self.module_in_text = re.compile(r"\b(" + "|".join(map(re.escape, modules)) + r")\b" if modules else r"(?!)")

    def _by_length(self) -> list[str]:
        return sorted(self.table, key=len, reverse=True)

    def run(self) -> str:
        self._visit_tree()
        self._visit_tokens()
        self._replace_imports()
        text = self.source.text
        after = len(text)
        for start, end, replacement in sorted(self.edits, reverse=True):
            assert end <= after, f"overlapping edits at offset {start} of {self.source.name}"
            text = text[:start] + replacement + text[end:]
            after = start
        return text

    def _edit(self, start: int, end: int, replacement: str = "") -> None:
        self.edits.append((start, end, replacement))

    # Shapes that take more than a word: found in the tree.

    def _visit_tree(self) -> None:
        for node in _outside_strings(self.source.tree):
            if isinstance(node, ast.Import):
                self._visit_import(node)
            elif isinstance(node, ast.ImportFrom) and node.module in _ASYNC_MODULES:
                raise self.source.error(
                    node.lineno, f"write `import {node.module}`, so that its uses can be told apart"
                )
            elif isinstance(node, ast.Subscript):
                self._visit_subscript(node)
            elif isinstance(node, ast.Await):
                self._unwrap(node)

    def _visit_import(self, node: ast.Import) -> None:
        if not any(alias.name.split(".")[0] in _ASYNC_MODULES for alias in node.names):
            return
        if len(node.names) > 1 or node.names[0].asname or "." in node.names[0].name:
            raise self.source.error(
                node.lineno, "write `import asyncio` alone on its line, and name its modules in full"
            )
        self.imports.append(node)

    def _visit_subscript(self, node: ast.Subscript) -> None:
        name = ast.unparse(node.value).split(".")[-1]
        if name == "AsyncGenerator":
            items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            missing = ", None" * (3 - len(items))
            end = self.source.end(items[-1])
            self._edit(end, end, missing)
        elif name == "Awaitable":
            self._edit(self.source.start(node), self.source.start(node.slice))
            self._edit(self.source.end(node.slice), self.source.end(node))

    def _unwrap(self, node: ast.Await) -> None:
        """``(await f()).g`` is ``f().g``: take the parentheses that only the ``await`` needed."""
        if not isinstance(node.value, ast.Call | ast.Attribute | ast.Name | ast.Subscript):
            return
        start, end = self.source.start(node), self.source.end(node)
        tokens = [t for t in self.source.tokens if t.kind not in (tokenize.INDENT, tokenize.DEDENT)]
        first = next(i for i, t in enumerate(tokens) if t.start == start)
        last = next(i for i, t in enumerate(tokens) if t.start >= end)
        if first == 0 or tokens[first - 1].text != "(" or tokens[last].text != ")":
            return
        depth = 0
        for token in tokens[first:last]:
            if token.kind == tokenize.OP:
                depth += (token.text in "([{") - (token.text in ")]}")
            elif depth == 0 and token.kind in (tokenize.NL, tokenize.COMMENT):
                return
        caller = tokens[first - 2] if first > 1 else None
        if caller is not None and (
            caller.text in (")", "]")
            or caller.kind == tokenize.STRING
            or (caller.kind == tokenize.NAME and not keyword.iskeyword(caller.text))
        ):
            return
        self._edit(tokens[first - 1].start, tokens[first - 1].end)
        self._edit(tokens[last].start, tokens[last].end)

    # Words: found in the tokens.

    def _visit_tokens(self) -> None:
        inside_imports = [(self.source.start(node), self.source.end(node)) for node in self.imports]
        tokens = self.source.tokens
        skip_to = 0
        for index, token in enumerate(tokens):
            if token.start < skip_to or any(start <= token.start < end for start, end in inside_imports):
                continue
            if token.kind in (tokenize.STRING, tokenize.COMMENT):
                replacement = self._text(token)
                if replacement != token.text:
                    self._edit(token.start, token.end, replacement)
            elif token.kind == tokenize.NAME:
                skip_to = self._visit_name(index, token)

    def _visit_name(self, index: int, token: _Token) -> int:
        """Rewrite a name, and whatever of its dots belongs to it; return the offset where that ends."""
        tokens = self.source.tokens
        if token.text in ("async", "await"):
            after = tokens[index + 1]
            self._edit(token.start, after.start if after.line == token.line else token.end)
            return token.end
        is_attribute = index > 0 and tokens[index - 1].text == "."
        if not is_attribute:
            for length in (5, 3):
                chain = tokens[index : index + length]
                dotted = "".join(t.text for t in chain)
                if len(chain) == length and dotted in self.table:
                    self._use(dotted)
                    self._edit(token.start, chain[-1].end, self.table[dotted])
                    return chain[-1].end
            if token.text in _ASYNC_MODULES:
                used = "".join(t.text for t in tokens[index : index + 3])
                raise self.source.error(
                    token.line,
                    f"{used} has no synchronous form in the tables of tools/async_to_sync.py: add it, or mark the lines",
                )
        self._replace_name(token)
        return token.end

    def _replace_name(self, token: _Token) -> None:
        if token.text in self.table:
            self._use(token.text)
            replacement = self.table[token.text]
        elif token.text in self.modules:
            replacement = self.modules[token.text]
        else:
            replacement = _ASYNC_NAME.sub(r"\1", token.text)
        if replacement != token.text:
            self._edit(token.start, token.end, replacement)

    def _use(self, word: str) -> None:
        self.used.add(word)
        if word.split(".")[0] in _ASYNC_MODULES and "." in self.table[word]:
            self.needed.add(self.table[word].rpartition(".")[0])

    def _text(self, token: _Token) -> str:
        text = token.text
        if token.kind == tokenize.STRING:
            if "AsyncGenerator[" in text or "Awaitable[" in text:
                raise self.source.error(token.line, "take the quotes off this annotation, or name an AsyncIterator")
            if "f" in text[: text.index(text[-1])].lower():
                text = _AWAIT_IN_FSTRING.sub("", text)
        text = self.in_text.sub(self._word_in_text, text)
        text = self.module_in_text.sub(lambda match: self.modules[match[1]], text)
        text = _ASYNC_NAME_IN_TEXT.sub(r"\1", text)
        return _ASYNC_IN_TEXT.sub("", _AWAIT_IN_TEXT.sub("", text))

    def _word_in_text(self, match: re.Match[str]) -> str:
        self.used.add(match[0])
        return self.table[match[0]]

    def _replace_imports(self) -> None:
        for node in self.imports:
            start, end = self.source.start(node), self.source.end(node)
            indent = " " * node.col_offset
            if self.needed:
                self._edit(start, end, f"\n{indent}".join(f"import {module}" for module in sorted(self.needed)))
            else:
                self._edit(self.source.offsets[node.lineno - 1], self.source.offsets[node.lineno])


def _outside_strings(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, but for the insides of f-strings, which are rewritten as text."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.JoinedStr):
            yield from _outside_strings(child)


def _prove_synchronous(name: str, text: str) -> None:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        line = text.splitlines()[(error.lineno or 1) - 1].strip()
        raise ConversionError(f"{name}: the twin is not Python ({error.msg}): {line}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith) or (
            isinstance(node, ast.comprehension) and node.is_async
        ):
            raise ConversionError(f"{name}: the twin would still wait: {ast.unparse(node).splitlines()[0]}")


def formatted(text: str, target: str, *, root: Path = ROOT) -> str:
    """Sort the imports and format, by the project's ruff settings."""
    name = str(root / target)
    safe = "--config=lint.extend-safe-fixes=['UP028']"  # `yield from`, which an asynchronous generator cannot say
    quiet = ["--exit-zero", "--quiet"]
    mended = _ruff(["check", "--fix", safe, *quiet, f"--fixable={_MENDED}", f"--stdin-filename={name}", "-"], text)
    return _ruff(["format", "--quiet", f"--stdin-filename={name}", "-"], mended)


def _ruff(arguments: Sequence[str], text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments[:1], "--config", str(ROOT / "pyproject.toml"), *arguments[1:]]
    done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8", cwd=ROOT, check=False)
    if done.returncode != 0:
        raise ConversionError(f"ruff {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


def selected(twins: Sequence[Twin], names: Sequence[str]) -> list[Twin]:
    """Return the twins that the names mean, all of them without names; ``ConversionError`` for an unknown name."""
    if not names:
        return list(twins)
    chosen: list[Twin] = []
    for name in names:
        matching = [t for t in twins if _means(name, t.source) or _means(name, t.target)]
        if not matching:
            raise ConversionError(f"{name} is not in the table of tools/async_to_sync.py")
        chosen += [t for t in matching if t not in chosen]
    return chosen


def _means(name: str, path: str) -> bool:
    name = name.removeprefix("./").removeprefix(f"{ROOT.as_posix()}/").removesuffix(".py")
    return f"/{path.removesuffix('.py')}".endswith(f"/{name}")


def table_problems(twins: Sequence[Twin], *, root: Path, by_hand: Mapping[str, str]) -> list[str]:
    """List what is wrong with the table itself: names, and sources under ``src`` that it does not know."""
    problems = [f"{t.source}: a source's name ends in _async.py" for t in twins if not t.source.endswith("_async.py")]
    targets = [t.target for t in twins]
    problems += [f"{target} is generated twice" for target in sorted({t for t in targets if targets.count(t) > 1})]
    known = {t.source for t in twins} | by_hand.keys()
    found = {path.relative_to(root).as_posix() for path in root.glob("src/**/*_async.py")}
    problems += [f"{path} is not in the table of tools/async_to_sync.py" for path in sorted(found - known)]
    problems += [f"{path} is in BY_HAND, and does not exist" for path in sorted(by_hand.keys() - found)]
    return problems


def run(
    names: Sequence[str] = (),
    *,
    check: bool = False,
    root: Path = ROOT,
    twins: Sequence[Twin] = TWINS,
    words: Mapping[str, str] = WORDS,
    by_hand: Mapping[str, str] = BY_HAND,
) -> list[str]:
    """Write or check the twins, and return the problems; a stale twin's problem is its diff."""
    problems = [] if names else table_problems(twins, root=root, by_hand=by_hand)
    used: set[str] = set()
    complete = not names
    for twin in selected(twins, names):
        source, target = root / twin.source, root / twin.target
        if not source.is_file():
            problems.append(f"{twin.source}: missing source")
            complete = False
            continue
        try:
            converted = convert(source.read_text(encoding="utf-8"), twin, twins=twins, words=words, by_hand=by_hand)
            text = formatted(converted.text, twin.target, root=root)
        except ConversionError as error:
            problems.append(str(error))
            complete = False
            continue
        used |= converted.used - twin.words.keys()
        problems += [f"{twin.source}: no use of its word {w!r}" for w in twin.words if w not in converted.used]
        problems += _compare(target, text, twin) if check else _write(target, text, twin)
    if complete:
        problems += [f"tools/async_to_sync.py: no module uses {word!r} of WORDS" for word in words if word not in used]
    return problems


def _compare(target: Path, text: str, twin: Twin) -> list[str]:
    current = target.read_text(encoding="utf-8") if target.is_file() else ""
    if current == text:
        return []
    diff = difflib.unified_diff(
        current.splitlines(keepends=True), text.splitlines(keepends=True), twin.target, f"{twin.target} (generated)"
    )
    return [f"{twin.target} is stale; run tools/async_to_sync.py\n{''.join(diff)}"]


def _write(target: Path, text: str, twin: Twin) -> list[str]:
    current = target.read_text(encoding="utf-8") if target.is_file() else ""
    if current and not current.startswith("# Generated from "):
        return [f"{twin.target} was written by hand; move it away, then run again"]
    if current != text:
        target.write_text(text, encoding="utf-8", newline="\n")
        print(f"wrote {twin.target}")
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the synchronous twins of hand-written asynchronous modules.")
    parser.add_argument("names", nargs="*", help="the twins to write; all of them without a name")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 with a diff if a twin is stale")
    options = parser.parse_args(arguments)
    try:
        problems = run(options.names, check=options.check)
    except ConversionError as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
