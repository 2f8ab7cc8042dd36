"""``sentence-transformers:…`` with the library itself, and a small model with random weights in MiniLM's architecture.

Not among the tests that run by default, for torch is too large: ``pip install 'likewise[sentence-transformers]'``, then
``scripts/test tests/models_torch``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers

import likewise
from likewise import CollectionSpec, ModelNotAvailable, Record, UnsupportedFeature
from likewise.embedding import SentenceTransformersEmbedder, load_embedder
from likewise.embedding import mini as mini_module
from likewise.embedding.sentence_transformers import precision

TEXTS = ["red dress", "", "A very long description of a vehicle " * 30, "naïve 日本語", "x", *["a b c d e"] * 20]
PROMPTS = {"query": "query: ", "document": "passage: "}
VOCABULARY = Path(mini_module.__file__).parent / "models" / "mini" / "tokenizer.json"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as the library saves it: two layers, 96 numbers, texts of at most 64 tokens."""
    torch.manual_seed(7)
    saved = tmp_path_factory.mktemp("saved") / "tiny"
    config = transformers.BertConfig(
        vocab_size=30_522,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=384,
        max_position_embeddings=128,
    )
    transformers.BertModel(config).save_pretrained(saved)
    transformers.BertTokenizerFast(tokenizer_file=str(VOCABULARY), model_max_length=128).save_pretrained(saved)
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(kinds.items())
    ]
    for name, content in {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": PROMPTS, "default_prompt_name": None},
        "1_Pooling/config.json": {"word_embedding_dimension": 96, "pooling_mode_mean_tokens": True},
    }.items():
        (saved / name).parent.mkdir(exist_ok=True)
        (saved / name).write_text(json.dumps(content), "utf-8")
    (saved / "2_Normalize").mkdir()
    return saved


@pytest.fixture(scope="session")
def itself(folder: Path) -> sentence_transformers.SentenceTransformer:
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu").to(torch.float32)


@pytest.fixture
def exact(folder: Path) -> SentenceTransformersEmbedder:
    return SentenceTransformersEmbedder(str(folder), dtype="float32", device="cpu")


def test_rows_are_the_librarys_own(
    exact: SentenceTransformersEmbedder, itself: sentence_transformers.SentenceTransformer
) -> None:
    rows = exact.embed_texts(TEXTS)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(rows, itself.encode(TEXTS), atol=1e-5)
    assert np.allclose(rows, [exact.embed_texts([text])[0] for text in TEXTS], atol=1e-5)
    assert np.allclose(exact.embed_queries(TEXTS), itself.encode_query(TEXTS), atol=1e-5)
    assert np.allclose(exact.embed_passages(TEXTS), itself.encode_document(TEXTS), atol=1e-5)
    assert not np.allclose(exact.embed_queries(["a"]), exact.embed_passages(["a"]), atol=1e-3)
    assert exact.embed_texts([]).shape == (0, 96)


def test_the_card_by_the_files_is_the_card_by_the_library(exact: SentenceTransformersEmbedder) -> None:
    by_files = exact._described()
    assert by_files is not None
    assert by_files == exact._described_by(exact._library_model())
    assert (by_files.dimension, by_files.max_tokens) == (96, 64)
    assert (by_files.query_prompt, by_files.passage_prompt) == ("query: ", "passage: ")


def test_the_card_imports_no_torch(folder: Path) -> None:
    code = (
        "import sys; from likewise.embedding import load_embedder\n"
        f"print(load_embedder({'sentence-transformers:' + str(folder)!r}).card.dimension, 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == (
        "96 False\n"
    )


def test_half_precision_is_near_and_taken_where_there_are_units_for_it(
    folder: Path, exact: SentenceTransformersEmbedder
) -> None:
    half = SentenceTransformersEmbedder(str(folder), dtype="bfloat16", device="cpu")
    rows = half.embed_texts(TEXTS)
    assert half._library_model().dtype == torch.bfloat16
    assert (rows * exact.embed_texts(TEXTS)).sum(axis=1).min() > 0.999
    auto = SentenceTransformersEmbedder(str(folder), device="cpu")
    auto.warm_up()
    wanted = precision("auto", torch, "cpu")
    assert auto._library_model().dtype == getattr(torch, wanted)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if flags:
        assert (wanted == "bfloat16") == ("avx512_bf16" in flags or "amx_tile" in flags)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU that torch knows")
def test_a_gpu_is_used_where_there_is_one(folder: Path, exact: SentenceTransformersEmbedder) -> None:
    embedder = SentenceTransformersEmbedder(str(folder))
    rows = embedder.embed_texts(TEXTS * 50)
    assert str(embedder._library_model().device).startswith("cuda")
    assert (rows[: len(TEXTS)] * exact.embed_texts(TEXTS)).sum(axis=1).min() > 0.999


def test_shorter_vectors(folder: Path, exact: SentenceTransformersEmbedder) -> None:
    embedder = load_embedder(f"sentence-transformers:{folder}@32")
    assert embedder.card.dimension == 32
    whole = exact.embed_texts(["a"])[:, :32]
    rows = embedder.embed_texts(["a"])
    assert rows.shape == (1, 32)
    assert float((rows * whole).sum() / np.linalg.norm(whole)) > 0.999


def test_a_search_by_its_name(folder: Path) -> None:
    with likewise.connect("memory://") as store:
        things = store.ensure_collection(CollectionSpec("things", embedder=f"sentence-transformers:{folder}"))
        things.upsert([Record(text, content=text) for text in ("red dress", "a fast car", "bread")])
        assert {result.id for result in things.search("red dress")} == {"red dress", "a fast car", "bread"}


@pytest.mark.parametrize("damage", ["cut weights", "no weights", "no vocabulary", "pickled weights"])
def test_a_damaged_folder_is_named(folder: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "m"
    shutil.copytree(folder, copy)
    weights = copy / "model.safetensors"
    if damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:10_000])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no vocabulary":
        for name in ("tokenizer.json", "vocab.txt"):
            (copy / name).unlink(missing_ok=True)
    else:
        # What runs when it is unpickled must not run.
        weights.unlink()
        (copy / "pytorch_model.bin").write_bytes(
            b"cposix\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
        )
    with pytest.raises(ModelNotAvailable, match=r"cannot be loaded|is damaged.*vocabulary"):
        SentenceTransformersEmbedder(str(copy), device="cpu").embed_texts(["a"])
    assert not (tmp_path / "ran").exists()


def test_code_of_a_models_own_is_not_run(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m"
    shutil.copytree(folder, copy)
    modules = json.loads((copy / "modules.json").read_text())
    modules[0]["type"] = "evil.Evil"
    (copy / "modules.json").write_text(json.dumps(modules))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelNotAvailable):
        SentenceTransformersEmbedder(str(copy), device="cpu").embed_texts(["a"])
    assert not (tmp_path / "ran").exists()


def test_an_unknown_model_offline(tmp_path: Path) -> None:
    with pytest.raises(ModelNotAvailable, match="tried the cache"):
        _ = SentenceTransformersEmbedder("nobody/nothing", cache_dir=tmp_path, offline=True).card


def test_pictures_are_refused_by_a_model_of_texts(exact: SentenceTransformersEmbedder) -> None:
    with pytest.raises(UnsupportedFeature, match="embedding pictures"):
        exact.embed_images([b""])
