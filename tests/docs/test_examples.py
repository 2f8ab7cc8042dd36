"""The programs in ``examples`` run as they are, on a database of their own, and print what they are there to show."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from embedding.openai_server import Reply, Seen, as_json, serving

from .markdown import ROOT

EXAMPLES = ROOT / "examples"
#: Data of others, where the project has them at hand.
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

Run = Callable[..., str]


def load(path: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """An example as a module, not run."""
    name = f"likewise_example_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look for their module there.
    patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(fresh_database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs an example on the test's database; what it prints."""

    def call(path: str, *arguments: object) -> str:
        capsys.readouterr()
        database = [fresh_database_url] if path == "articles.py" else ["--database", fresh_database_url]
        load(path, monkeypatch).main([*map(str, arguments), *database])
        return capsys.readouterr().out

    return call


def test_every_example_is_run_here() -> None:
    programs = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}
    assert programs == {"articles.py", "rag.py", "support/support.py", "documents/documents.py"}


def test_articles(run: Run) -> None:
    printed = run("articles.py")
    assert "12 articles stored" in printed
    first = re.findall(r"^(?:how do I bake bread|a holiday by the sea)\n +[\d.]+ +(.*)$", printed, re.MULTILINE)
    assert first == ["Why sourdough needs patience", "Five quiet islands"]


def test_a_story(run: Run) -> None:
    for _ in range(2):
        printed = run("rag.py")
        assert "843 words in 16 chunks" in printed
        answers = dict(re.findall(r"^(\S.*\?)\n  (.*)$", printed, re.MULTILINE))
        assert "four litres of oil each night" in answers["How much oil does the lamp need?"]
        assert "a one-eyed cat called Bosun. [1]" in answers["What was the name of the cat?"]
        assert answers["What is the capital of Mongolia?"] == "Nothing was found that answers this."
    story = (EXAMPLES / "story.txt").read_text(encoding="utf-8")
    start, end = map(
        int, re.findall(r"name of the cat\?\n.*\n +\[1\] story.txt, characters (\d+) to (\d+)", printed)[0]
    )
    assert "called Bosun" in story[start:end]


def test_a_text_of_ones_own_and_a_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_CHAT_API_KEY", "sk-none")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    text = tmp_path / "trains.txt"
    text.write_text("The night train leaves at ten. The day train leaves at noon.", encoding="utf-8")

    def says(seen: Seen) -> Reply:
        assert "The night train leaves at ten." in seen.body["messages"][1]["content"]
        return as_json({"choices": [{"message": {"content": "At ten [1]."}, "finish_reason": "stop"}]})

    with serving() as server:
        server.answer = says
        printed = run("rag.py", text, "--ask", "When does the train leave?", "--chat", "tiny", "--chat-url", server.url)
    assert "When does the train leave?\n  At ten [1].\n  [1] trains.txt, characters 0 to 60" in printed


def test_support(run: Run) -> None:
    printed = run("support/support.py")
    assert "5 articles stored, 0 unchanged" in printed
    assert re.search(r"by meaning and words: E17\n  1\.00  hiring\.md#1  has the word", printed)
    assert re.search(r"where do I leave the bike\?\n  .*\"station full\" in the app\. \[1\]", printed)
    assert "[1] returning.md: Returning a bicycle > If the station is full" in printed
    assert re.search(r"\(nothing found\): helped 0, did not [12]\n", printed)
    again = run("support/support.py")
    assert "0 articles stored, 5 unchanged" in again


def test_documents(run: Run) -> None:
    printed = run("documents/documents.py")
    assert "ann/heating.txt: stored, text/plain, of ann, 2 chunks" in printed
    anywhere, of_bob, html = re.findall(
        r"^(?:.*: anywhere|of bob|of bob, and text/html)\n  (.*)", printed, re.MULTILINE
    )
    assert "bob/insurance.md, characters 0 to" in anywhere
    assert "bob/insurance.md" in of_bob
    assert "bob/minutes.html" in html
    assert re.search(r"the lift\n  0\.\d+  ann/heating\.txt", printed)
    assert "bob: 0 stored, 2 unchanged, 0 copies, 1 deleted" in printed
    assert "repaired: 1 records restored, 0 beyond repair" in printed
    assert "  ann: 2 documents, 4 vectors" in printed
    assert "  text/markdown: 2 documents" in printed
    # The files beside the program are as they were.
    assert (EXAMPLES / "documents" / "texts" / "bob" / "minutes.html").exists()
    assert "boiler" in (EXAMPLES / "documents" / "texts" / "ann" / "heating.txt").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the articles and documents of others are not here")
def test_articles_and_documents_of_others(run: Run, tmp_path: Path) -> None:
    question = "How large may a file be that I share?"
    printed = run("support/support.py", DATA / "support" / "bitwarden-help" / "send", "--ask", question)
    # One of nine is nothing but front matter.
    assert re.search(r"8 articles stored", printed)
    assert "500 MB" in printed[printed.index(question) :]

    folder = tmp_path / "mail"
    shutil.copytree(DATA / "docs" / "py-pdf-sample-files" / "001-trivial", folder / "trivial")
    shutil.copytree(EXAMPLES / "documents" / "texts" / "bob", folder / "bob")
    printed = run("documents/documents.py", folder)
    assert re.search(r"trivial/.*\.pdf: stored, application/pdf, of trivial", printed)
    assert "  trivial: 1 stored" in printed
