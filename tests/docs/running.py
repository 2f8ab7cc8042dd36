"""Runs the fences of a page, in order, in a world of the page's own: a database, a folder, a shell, a Python namespace.

``likewise.connect()`` without a URL means the test's database there, and ``likewise`` in a shell finds it in its environment.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
import pytest
from PIL import Image
from psycopg import sql

import likewise
from embedding import tiny_bert
from embedding.openai_server import embeddings, serving
from likewise import CollectionSpec, Record
from likewise.backends.postgres.embedded.binaries import find_binaries
from likewise.embedding import load_embedder, register_embedder, registry

from .markdown import ROOT, Fence

#: Parts of shell fences that are not run here, and what makes up for it. Nothing else is left out.
NOT_HERE: Mapping[str, str] = {
    "python3 -m venv .venv && .venv/bin/pip install . && ": "the tests run in an environment that is made already",
    """python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && PATH="$PWD/.venv/bin:$PATH" scripts/test""": (
        "continuous integration runs it: it is what runs this test"
    ),
    "pip install likewise": "installs what is released, not what is tested",
}
#: Folders that pages name for an embedded server of their own.
FOLDERS = ("/tmp/likewise-howto", "/srv/models/ours")
#: Pages that use what ``likewise demo`` stores.
AFTER_THE_DEMO = frozenset({"README.md", "docs/howto/command-line.md"})
#: Pages that need a server with dblink, which the usual one of the tests has not.
WITH_DBLINK = frozenset({"docs/howto/dblink.md"})

_MODULE = "likewise_documentation_page"
#: A stand-in for jq where it is not installed: it knows the one expression that the pages use.
_JQ = """\
import json, sys
assert sys.argv[1:] == ["-r", ".results[].id"], sys.argv
print(*(result["id"] for result in json.load(sys.stdin)["results"]), sep="\\n")
"""


@contextmanager
def database(server: str, *, template: str = "template0") -> Generator[str, None, None]:
    """The URL of a new database on the server, a copy of another one; at its end no transaction may be open."""
    name = f"likewise_docs_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    try:
        url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        yield url
        with psycopg.connect(url) as connection:
            left = connection.execute(
                "select state, query from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
                " and state like 'idle in transaction%'"
            ).fetchall()
        assert not left, f"transactions were left open: {left}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass
class World:
    """Where a page's fences run."""

    url: str
    folder: Path
    namespace: ModuleType
    #: What is undone at the end.
    ending: contextlib.ExitStack

    def run(self, fence: Fence) -> str:
        """Run a fence; what it prints."""
        match fence.language:
            case "python":
                return self._python(fence)
            case "sql":
                return self.shell("psql -X --quiet --no-psqlrc --set=ON_ERROR_STOP=1", fence, stdin=fence.code)
            case "sh":
                script = fence.code
                for part in NOT_HERE:
                    script = script.replace(part, "")
                # `likewise sql` without a statement reads its input, where there is no terminal.
                return self.shell(script, fence, stdin="select 1;\n")
            case "json":
                return json.dumps(json.loads(fence.code))
            case _:
                raise AssertionError(f"{fence}: nobody knows how to run this")

    def _python(self, fence: Fence) -> str:
        code = fence.code
        for folder in FOLDERS:
            code = code.replace(folder, str(self.folder / Path(folder).name))
        # Empty lines before it, so that a traceback shows the page's own lines.
        program = compile("\n" * (fence.line - 1) + code, str(ROOT / fence.page), "exec", dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program, self.namespace.__dict__)
        return printed.getvalue()

    def shell(self, script: str, fence: object, *, stdin: str = "") -> str:
        """Run a script by bash, in the page's folder."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{fence} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def world(url: str) -> Generator[World, None, None]:
    """A world on this database, for the length of the block."""
    with (
        # Not pytest's own folder: an embedded server may run as another user, who has to pass through.
        tempfile.TemporaryDirectory(prefix="likewise-docs-", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
        contextlib.ExitStack() as ending,
    ):
        folder = Path(name)
        folder.chmod(0o711)
        namespace = ModuleType(_MODULE)
        patch.setitem(sys.modules, _MODULE, namespace)
        patch.setattr(likewise, "connect", _at(url, likewise.connect))
        patch.setattr(likewise, "connect_async", _at(url, likewise.connect_async))
        programs = folder / "bin"
        programs.mkdir()
        command = _program(programs / "likewise", "-m likewise.cli.main")
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "likewise").symlink_to(command)
        (programs / "psql").symlink_to(find_binaries(None).program("psql"))
        if shutil.which("jq") is None:
            (folder / "jq.py").write_text(_JQ, encoding="utf-8")
            _program(programs / "jq", f"'{folder / 'jq.py'}'")
        (folder / "home").mkdir()
        for variable, value in _environment(url, folder).items():
            patch.setenv(variable, value)
        yield World(url, folder, namespace, ending)


def _at(url: str, connect: Callable[..., Any]) -> Callable[..., Any]:
    def connect_here(given: str | None = None, **options: Any) -> Any:
        return connect(url if given is None else given, **options)

    return connect_here


def _program(path: Path, arguments: str) -> Path:
    path.write_text(f"""#!/bin/sh\nexec '{sys.executable}' {arguments} "$@"\n""", encoding="utf-8")
    path.chmod(0o755)
    return path


def _environment(url: str, folder: Path) -> dict[str, str]:
    """What a shell on this database needs; psql finds the database, too, and its password, which ``store.url`` leaves out."""
    with psycopg.connect(url) as connection:
        info = connection.info
        found = {"PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": info.user, "PGDATABASE": info.dbname}
        if info.password:
            found["PGPASSWORD"] = info.password
    if match := re.search(r"[?&]passfile=([^&]+)", url):
        found["PGPASSFILE"] = unquote(match[1])
    return {
        **found,
        "LIKEWISE_DATABASE_URL": url,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "COLUMNS": "120",
        "LC_ALL": "C.UTF-8",
    }


# What pages take for granted.


def _command_line(place: World) -> None:
    """A folder of somebody who has pictures, notes and a report, and a database with the demo and some pictures."""
    colours = [("holiday.jpg", (200, 60, 40)), ("home/Pictures/sea.png", (30, 90, 180))]
    (place.folder / "home" / "Pictures").mkdir()
    for name, colour in colours:
        Image.new("RGB", (64, 48), colour).save(place.folder / name)
    (place.folder / "home" / "Documents").mkdir()
    letter = "<html><title>A letter</title><p>The boat to the island leaves at noon.</p></html>"
    (place.folder / "home" / "Documents" / "letter.html").write_text(letter, encoding="utf-8")
    (place.folder / "notes.md").write_text("# Notes\n\nThe ferry leaves at noon.\n", encoding="utf-8")
    (place.folder / "report.sql").write_text("select count(*) from products;\n", encoding="utf-8")
    with likewise.connect() as store:
        store.collection("demo").upsert(Record("record-17", content="A lamp.", metadata={"price": 5}))
        pictures = store.ensure_collection(CollectionSpec("pictures", embedder="mini"))
        pictures.upsert(Record("sunset", image=place.folder / "holiday.jpg"))


def _models(place: World) -> None:
    """A server on this machine in place of OpenAI's, and a key for it."""
    server = place.ending.enter_context(serving())
    server.answer = lambda seen: embeddings(4, tokens=sum(len(text.split()) for text in seen.texts))(seen)
    patch = place.ending.enter_context(pytest.MonkeyPatch.context())
    for variable, value in (("API_KEY", "sk-none"), ("BASE_URL", server.url)):
        patch.delenv(f"LIKEWISE_OPENAI_{variable}", raising=False)
        patch.setenv(f"OPENAI_{variable}", value)
    patch.setenv("NO_PROXY", "127.0.0.1")
    # A folder with a model of somebody's own, and a cache without any.
    tiny_bert.write_bert(place.folder / "ours")
    patch.setenv("LIKEWISE_MODEL_CACHE_DIR", str(place.folder / "cache"))
    patch.delenv("LIKEWISE_MODEL_OFFLINE", raising=False)
    forget_minilm = partial(register_embedder, "minilm", registry._factories["minilm"])
    forget_minilm()
    place.ending.callback(forget_minilm)
    # So that the address is not remembered, neither one from before nor this one.
    forget = partial(register_embedder, "openai", registry._factories["openai"])
    forget()
    place.ending.callback(forget)
    place.ending.callback(lambda: load_embedder("openai:text-embedding-3-small@256").close())


GIVEN: Mapping[str, Callable[[World], None]] = {
    "docs/howto/command-line.md": _command_line,
    "docs/howto/models.md": _models,
}
