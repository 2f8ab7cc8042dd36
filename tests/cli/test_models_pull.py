"""``likewise models pull`` and ``show``, with a hub on this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from embedding import tiny_bert
from embedding.hub_server import COMMIT, Hub, serving
from likewise.cli.exits import Exit
from likewise.cli.output import Output
from likewise.embedding import Loading, OnnxTextEmbedder, Source, TextModel, model_files, pull_model, register_embedder
from likewise.embedding.minilm import MINILM
from likewise.embedding.registry import _factories
from likewise.errors import UnsupportedFeature

from .conftest import Likewise


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub, and the model ``test-tiny`` from it."""
    shape = tiny_bert.Shape(layers=1)
    folder = tiny_bert.write_bert(tmp_path / "model", shape)
    files = {name: (folder / name).read_bytes() for name in MINILM.source.files}
    model = TextModel(
        replace(MINILM.card, name="test-tiny"), Source("owner/tiny", "main", tuple(files)), pooling="mean"
    )
    with serving(files) as hub:
        loading = Loading(cache_dir=tmp_path / "cache", endpoint=hub.url)
        register_embedder("test-tiny", lambda _variant: OnnxTextEmbedder(model, loading=loading))
        yield hub
    register_embedder("test-tiny", lambda _variant: OnnxTextEmbedder(model))
    del _factories["test-tiny"]


def test_a_model_is_pulled_and_then_shown_as_here(run: Likewise, hub: Hub, tmp_path: Path) -> None:
    before = run("models", "show", "test-tiny", "--json").json["files"]
    assert (before["here"], before["missing"], before["bytes"]) == (False, ["onnx/model.onnx", "tokenizer.json"], 0)
    assert (before["repository"], before["revision"]) == ("owner/tiny", "main")
    done = run("models", "pull", "test-tiny", "--json")
    (pulled,) = done.json["models"]
    size = sum(map(len, hub.commits[COMMIT].values()))
    assert (pulled["name"], pulled["here"], pulled["bytes"], pulled["revision"]) == ("test-tiny", True, size, COMMIT)
    assert Path(pulled["folder"]).is_relative_to(tmp_path / "cache")
    assert done.err == ""
    assert run("models", "show", "test-tiny", "--json").json["files"] == {
        k: v for k, v in pulled.items() if k != "name"
    }
    shown = run("models", "show", "test-tiny", "--load").out
    assert "files folder" in shown
    assert f"{size:,}" in shown
    assert "loaded bytes" in shown
    asked = len(hub.requests)
    assert f"test-tiny is here and whole: {size:,} bytes" in run("models", "pull", "test-tiny").out
    assert len(hub.requests) == asked


def test_a_damaged_file_is_pulled_again(run: Likewise, hub: Hub) -> None:
    run("models", "pull", "test-tiny")
    files = model_files("test-tiny")
    assert files is not None
    (files.folder / "onnx" / "model.onnx").write_bytes(b"not this")
    shown = run("models", "show", "test-tiny", "--load", "--json")
    assert shown.code == Exit.FAILURE
    assert "likewise models pull test-tiny" in shown.error["message"]
    assert run("models", "pull", "test-tiny").code == Exit.OK
    assert run("models", "show", "test-tiny", "--load").code == Exit.OK


def test_what_cannot_be_pulled_says_why(run: Likewise, hub: Hub) -> None:
    assert run("models", "pull", "mini", "--json").error["type"] == "UnsupportedFeature"
    assert run("models", "pull", "no-such-model").code == Exit.FAILURE
    assert run("models", "pull").code == Exit.USAGE
    hub.wrong = lambda _: 404
    done = run("models", "pull", "test-tiny", "--json")
    assert done.code == Exit.FAILURE
    assert "has no owner/tiny" in done.error["message"]
    with pytest.raises(UnsupportedFeature, match="it has none to fetch"):
        pull_model("mini")
    assert model_files("mini") is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_sees_a_bar_for_each_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    seen = Terminal()
    with Output(stdout=io.StringIO(), stderr=seen).downloading() as show:
        show("onnx/model.onnx", 1_000_000, None)
        show("onnx/model.onnx", 2_000_000, 4_000_000)
        show("tokenizer\x1b[2J.json", 10, 10)
    assert "onnx/model.onnx" in seen.getvalue()
    assert "2.0/4.0 MB" in seen.getvalue()
    assert "\x1b[2J" not in seen.getvalue()
    quiet = io.StringIO()
    with Output(stdout=io.StringIO(), stderr=quiet).downloading() as show:
        show("onnx/model.onnx", 1, 2)
    assert quiet.getvalue() == ""
