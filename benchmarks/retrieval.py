"""How well do the models find: texts by texts, photographs by captions, captions by photographs; beside what is published of them?

    python benchmarks/retrieval.py --data DATA [--model NAME …] [--out benchmarks/results]

``DATA`` has a folder ``flickr8k-test`` (captions.csv, images), and folders under ``ir`` as BEIR lays them out. Measured are the shipped models, those
named by ``--model``, and those of the usual ones whose files are in the cache; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _quality import Captioned, TextSet, captioned, ndcg, recalls, text_set, top
from numpy.typing import NDArray

import likewise
from likewise import Embedder, ModelNotAvailable, OptionalDependencyError
from likewise.embedding import available_models, load_embedder

SHIPPED = ("mini", "mini:conse")
#: Measured where they are in the cache.
USUAL = (
    "minilm",
    "bge-small-en",
    "bge-base-en",
    "bge-m3",
    "clip",
    "clip:laion2b",
    "jina-clip-v2",
    "jina-clip-v2@512",
    "fastembed:sentence-transformers/all-MiniLM-L6-v2",
    "fastembed:BAAI/bge-small-en-v1.5",
    "fastembed:Qdrant/clip-ViT-B-32",
    "fastembed:jinaai/jina-clip-v1",
    "fastembed:google/siglip2-base-patch16-224",
)


@dataclass(frozen=True)
class Published:
    """A figure that somebody else published: of what, on what, in what order the numbers are, and where it stands."""

    model: str
    on: str
    numbers: tuple[float, ...]
    source: str


TABLE_13 = "Radford et al. 2021, table 13"
FLICKR8K = "ericjtyao05-cmd/CLIP-ViT-B-32-on-Flickr8k on GitHub, a reproduction by one person"
FLICKR30K = "PandaChen-pro/EvaluateCLIP on GitHub, a reproduction by one person"
#: Text to image recall@1, 5, 10, then image to text; or nDCG@10.
PICTURES = (
    Published("CLIP ViT-B/32", "Flickr8k test", (0.511, 0.779, 0.864, 0.682, 0.884, 0.946), FLICKR8K),
    Published("CLIP ViT-B/32", "Flickr30k test", (0.594, 0.836, 0.901, 0.812, 0.958, 0.988), FLICKR30K),
    Published("CLIP ViT-L/14@336", "Flickr30k test", (0.687, 0.906, 0.952, 0.880, 0.987, 0.994), TABLE_13),
)
TEXTS = (
    Published("all-MiniLM-L6-v2, float32, 256 tokens", "scifact", (0.645,), "MTEB"),
    Published("BM25", "scifact", (0.665,), "Thakur et al. 2021 (BEIR), table 2"),
)


ABOUT_PICTURES = (
    "Recall@k: of the captions whose photograph is among the first k, of the photographs of whose captions one is. In italics: published "
    "elsewhere, by the source named, and where it says Flickr30k of other photographs."
)


@dataclass(frozen=True)
class Measured:
    """A model's numbers, and the seconds that embedding took."""

    model: str
    on: str
    numbers: tuple[float, ...]
    seconds: float


def pictures(model: Embedder, data: Captioned) -> Measured:
    """Recall@1, 5 and 10 from captions to photographs, and from photographs to captions, of which any of the photograph's own counts."""
    started = time.perf_counter()
    texts = model.embed_queries(data.captions)
    images = model.embed_images(data.images)
    seconds = time.perf_counter() - started
    scores = texts @ images.T
    relevant = data.of[:, None] == np.arange(len(data.images))
    numbers = (*recalls(scores, relevant), *recalls(np.ascontiguousarray(scores.T), relevant.T))
    return Measured(model.card.name, "flickr8k-test", numbers, seconds)


def texts(model: Embedder, name: str, data: TextSet) -> Measured:
    """The mean of nDCG@10 over the queries of the test set, by exact search with cosines."""
    started = time.perf_counter()
    ids = list(data.documents)
    documents = unit(model.embed_passages(list(data.documents.values())))
    queries = unit(model.embed_queries(list(data.queries.values())))
    seconds = time.perf_counter() - started
    found = top(queries @ documents.T, 10)
    gains = [ndcg([ids[place] for place in row], data.gains[key]) for key, row in zip(data.queries, found, strict=True)]
    return Measured(model.card.name, name, (float(np.mean(gains)),), seconds)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def models(named: Sequence[str]) -> Iterator[Embedder]:
    """The shipped models, those that were named, and those of the usual ones that can be loaded without a download."""
    os.environ["LIKEWISE_MODEL_OFFLINE"] = "1"
    families = available_models()
    for name in dict.fromkeys((*SHIPPED, *named, *USUAL)):
        if name.partition(":")[0].partition("@")[0] not in families and name not in named:
            continue
        try:
            model = load_embedder(name)
            model.warm_up()
        except (ModelNotAvailable, OptionalDependencyError) as error:
            if name in named:
                raise
            print(f"left out: {name}: {str(error)[:100]}", file=sys.stderr)
            continue
        yield model
        model.close()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def report(found: Sequence[Measured], sizes: Sequence[str]) -> str:
    """The tables; what is published stands below what was measured, and is not of this program."""
    lines = [
        f"# Retrieval quality, {datetime.datetime.now().astimezone():%Y-%m-%d}",
        "",
        f"{'; '.join(sizes)}. Exact search, cosines. Likewise {likewise.__version__}, Python {platform.python_version()}, {platform.machine()}.",
        "",
        "## Captions and photographs",
        "",
        ABOUT_PICTURES,
        "",
    ]
    rows = [
        [each.model, *(f"{number:.3f}" for number in each.numbers), f"measured, {each.seconds:.0f} s"]
        for each in found
        if each.on == "flickr8k-test"
    ]
    rows += [
        [f"*{each.model}, {each.on}*", *(f"*{number:.3f}*" for number in each.numbers), each.source]
        for each in PICTURES
    ]
    arrows = [f"{way} @{k}" for way in ("text → image", "image → text") for k in (1, 5, 10)]
    lines += table(["model", *arrows, "source"], rows)
    lines += ["## Texts", "", "nDCG@10.", ""]
    on = list(dict.fromkeys(each.on for each in found if each.on != "flickr8k-test"))
    rows = []
    for model in dict.fromkeys(each.model for each in found if each.on in on):
        of = {each.on: each for each in found if each.model == model}
        rows.append(
            [
                model,
                *(f"{of[name].numbers[0]:.3f}" if name in of else "" for name in on),
                f"measured, {sum(of[name].seconds for name in on if name in of):.0f} s",
            ]
        )
    rows += [
        [f"*{each.model}*", *(f"*{each.numbers[0]:.3f}*" if each.on == name else "" for name in on), each.source]
        for each in TEXTS
        if each.on in on
    ]
    lines += table(["model", *on, "source"], rows)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with flickr8k-test and ir")
    parser.add_argument("--model", action="append", default=[], help="a model to measure too; may be given again")
    parser.add_argument("--out", type=Path, help="a folder to write retrieval.md to; printed only if left out")
    options = parser.parse_args()
    photographs = options.data / "flickr8k-test"
    pairs = captioned(photographs) if photographs.is_dir() else None
    folders = sorted(path.parent for path in (options.data / "ir").glob("*/corpus.jsonl"))
    sets = {folder.name: text_set(folder) for folder in folders}
    if pairs is None and not sets:
        print(f"there is neither flickr8k-test nor ir in {options.data}", file=sys.stderr)
        return 2
    sizes = [f"{name}: {len(each.documents):,} documents, {len(each.queries):,} queries" for name, each in sets.items()]
    if pairs is not None:
        sizes.insert(0, f"flickr8k-test: {len(pairs.images):,} photographs, {len(pairs.captions):,} captions")
    found: list[Measured] = []
    for model in models(options.model):
        if pairs is not None and "image" in model.card.modalities and "text" in model.card.modalities:
            found.append(pictures(model, pairs))
            print(found[-1], file=sys.stderr)
        # The two of "mini" have the same side for texts.
        if "text" in model.card.modalities and model.card.name != "mini:conse":
            for name, each in sets.items():
                found.append(texts(model, name, each))
                print(found[-1], file=sys.stderr)
    text = report(found, sizes)
    print(text)
    if options.out:
        (options.out / "retrieval.md").write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
