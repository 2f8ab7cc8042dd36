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
MOST_SECONDS = 0.2

PROGRAM = """
import json, sys, time
started = time.process_time()
import likewise
seconds = time.process_time() - started
print(json.dumps({"file": likewise.__file__, "modules": sorted({m.split(".")[0] for m in sys.modules}), "seconds": seconds}))
"""


def measure() -> tuple[set[str], float]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["file"], "likewise is a folder without __init__.py"
    return set(report["modules"]), float(report["seconds"])


@pytest.fixture(scope="module")
def modules() -> set[str]:
    return measure()[0]


@pytest.mark.parametrize("package", HEAVY)
def test_import_loads_nothing_heavy(package: str, modules: set[str]) -> None:
    assert package not in modules


def test_import_is_fast() -> None:
    # The one timed test: time of the processor, and the best of seven, so that a busy machine does not fail it.
    best = min(measure()[1] for _ in range(7))
    assert best < MOST_SECONDS, (
        f"import likewise took {best * 1000:.0f} ms of the processor at best; python -X importtime says what is slow"
    )
