"""What ingesting a folder costs beside embedding its chunks alone, and whether its memory grows with the number of files.

    python benchmarks/ingest.py [--files 1000] [--models hashing mini] [--rounds 3] [--growth 500 2000 8000] [--url postgresql://…]

"Alone" embeds the very chunks that the ingestion makes, 512 at a time, and throws the vectors away. Ingesting finds, reads, hashes, parses and cuts the files,
looks up what is stored, embeds, and stores documents, chunks and records, without a vector index. Rounds are interleaved. A second ingestion finds nothing to do.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import likewise
from likewise import CollectionSpec
from likewise.embedding import load_embedder
from likewise.ingest import ingest
from likewise.ingest.chunking import TokensConfig, make_chunker
from likewise.testing.database import empty_database, server_url

WORDS = """
red blue green light warm small large round wool silk wood steel lamp chair table dress shirt kettle garden tent river paper travel evening
kitchen winter holiday children office quiet soft heavy simple modern classic with for and without of the a in
"""
#: Tokens of a chunk: a paragraph or two.
SIZE = 120


def fill(folder: Path, files: int) -> None:
    """Files of two formats, with about eight chunks each, no two the same."""
    draw, words = random.Random(1), WORDS.split()
    for n in range(files):
        paragraphs = [
            " ".join(draw.choices(words, k=draw.randint(30, 90))).capitalize() + f" {n}."
            for _ in range(draw.randint(4, 24))
        ]
        place = folder / f"{n % 50}"
        place.mkdir(exist_ok=True)
        if n % 2:
            (place / f"{n}.md").write_text(f"# File {n}\n\n" + "\n\n".join(paragraphs))
        else:
            body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
            (place / f"{n}.html").write_text(f"<html><head><title>File {n}</title></head><body>{body}</body></html>")


def measure(url: str, folder: Path, model: str, rounds: int) -> None:
    """Both sides, alternating."""
    embedder = load_embedder(model)
    embedder.warm_up()
    chunker = make_chunker(TokensConfig(SIZE), embedder)
    alone, whole, again = [], [], []
    with likewise.connect(url) as store:
        for n in range(rounds):
            collection = store.ensure_collection(CollectionSpec(f"bench{n}", embedder=model))
            began = time.perf_counter()
            report = ingest(collection, [folder], base=folder, chunker=chunker)
            whole.append(time.perf_counter() - began)
            began = time.perf_counter()
            assert ingest(collection, [folder], base=folder, chunker=chunker).unchanged == report.stored
            again.append(time.perf_counter() - began)
            texts: list[str] = []
            page = collection.scan(limit=5_000)
            while True:
                texts += [record.content or "" for record in page]
                if page.cursor is None:
                    break
                page = collection.scan(limit=5_000, cursor=page.cursor)
            began = time.perf_counter()
            for low in range(0, len(texts), 512):
                embedder.embed_passages(texts[low : low + 512])
            alone.append(time.perf_counter() - began)
            store.drop_collection(f"bench{n}")
    ratios = [a / w for a, w in zip(alone, whole, strict=True)]
    print(
        f"{model}: {report.stored:,} files, {report.records:,} chunks; alone {report.records / statistics.median(alone):,.0f} chunks/s, ingested "
        f"{report.records / statistics.median(whole):,.0f} chunks/s, {statistics.median(ratios):.2f} of it (rounds: "
        f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}); again {report.stored / statistics.median(again):,.0f} files/s"
    )


def grown(url: str, files: int) -> None:
    """The largest memory that this process has had, for so many files. In a process of its own, for it never shrinks."""
    import resource

    with tempfile.TemporaryDirectory() as name, likewise.connect(url) as store:
        fill(Path(name), files)
        collection = store.ensure_collection(CollectionSpec("growth", embedder="hashing"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report = ingest(collection, [name], base=name)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        store.drop_collection("growth")
    print(f"{files:,} files, {report.records:,} chunks: {before:.0f} MiB before, {after:.0f} MiB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--models", nargs="+", default=["hashing", "mini"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", nargs="*", type=int, default=[500, 2_000, 8_000])
    parser.add_argument("--url", help="a server on which databases may be created; by default an embedded one")
    parser.add_argument("--grown", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.grown is not None:
        grown(options.url, options.grown)
        return
    with server_url(options.url) as server, empty_database(server) as url, tempfile.TemporaryDirectory() as name:
        with likewise.connect(url) as store:
            info = store.info()
        print(
            f"PostgreSQL {info.version}, pgvector {info.vector_extension}, NumPy {np.__version__}, {platform.machine()}"
        )
        fill(Path(name), options.files)
        for model in options.models:
            measure(url, Path(name), model, options.rounds)
        for files in options.growth:
            command = [sys.executable, __file__, "--grown", str(files), "--url", url]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
