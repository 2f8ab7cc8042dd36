"""``import likewise`` is light: no driver, no model runtime, no framework, and hardly any time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "PIL",
    "charset_normalizer",
    "cv2",
    "fastapi",
    "fastembed",
    "httpx",
    "huggingface_hub",
    "numpy",
    "onnxruntime",
    "psycopg",
    "py3langid",
    "pypdfium2",
    "rapidocr",
    "rich",
    "sentence_transformers",
    "sqlalchemy",
    "tokenizers",
    "torch",
    "xlrd",
)
#: Seconds of the processor; where it is slow for now, so many times what a few modules of Python's own take.
MOST_SECONDS, MOST_TIMES = 0.2, 5.0

PROGRAM = """
import json, sys, time
started = time.process_time()
import likewise
seconds = time.process_time() - started
print(json.dumps({"file": likewise.__file__, "modules": sorted({m.split(".")[0] for m in sys.modules}), "seconds": seconds}))
"""
ITS_OWN = """
import time
started = time.process_time()
import asyncio, dataclasses, hashlib, inspect, json, pathlib, typing, urllib.parse
print(time.process_time() - started)
"""


def output_of(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def measure() -> tuple[set[str], float]:
    report = json.loads(output_of(PROGRAM))
    assert report["file"], "likewise is a folder without __init__.py"
    return set(report["modules"]), float(report["seconds"])


@pytest.fixture(scope="module")
def modules() -> set[str]:
    return measure()[0]


@pytest.mark.parametrize("package", HEAVY)
def test_import_loads_nothing_heavy(package: str, modules: set[str]) -> None:
    assert package not in modules


def test_import_is_fast() -> None:
    # The one timed test: time of the processor, the best of seven, and beside what else is imported meanwhile, so that a busy machine does not fail it.
    rounds = [(measure()[1], float(output_of(ITS_OWN))) for _ in range(7)]
    best, its_own = (min(column) for column in zip(*rounds, strict=True))
    assert best < max(MOST_SECONDS, MOST_TIMES * its_own), (
        f"import likewise took {best * 1000:.0f} ms of the processor at best, a few of Python's modules {its_own * 1000:.0f}; "
        "python -X importtime says what is slow"
    )
