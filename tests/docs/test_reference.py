"""The reference leaves nothing out, and is what the code says now."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import cast, get_args

import pytest

import likewise
from likewise import errors
from likewise.cli.main import build_parser
from likewise.filters import OPERATORS

from .markdown import ROOT, read


def mentioned(page: str) -> str:
    return (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")


def test_every_page_is_what_the_code_says_now() -> None:
    done = subprocess.run(
        ["bash", ROOT / "scripts" / "docs", "--check"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


#: Public names that are described on a page of their own kind; the others are in ``python.md``.
FILTERS = {node.__name__ for node in get_args(likewise.Filter)} | {"Filter", "Metadata", "Column"}


@pytest.mark.parametrize("name", likewise.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    page = "filters.md" if name in FILTERS else "errors.md" if name in errors.__all__ else "python.md"
    described = read(f"docs/reference/{page}")
    texts = [*described.headings, *(span for _, span in described.code_spans())]
    wanted = "Filters" if name == "Filter" else name
    assert any(re.match(rf"{wanted}\b", text) for text in texts), f"likewise.{name} is not in docs/reference/{page}"


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_in_the_reference_of_errors(name: str) -> None:
    page = read("docs/reference/errors.md")
    assert name in page.headings or name in {text for _, text in page.code_spans()}


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_is_in_the_reference_and_in_the_page_on_filters(operator: str) -> None:
    assert f'"{operator}"' in mentioned("filters.md")
    page = (ROOT / "docs" / "howto" / "filters.md").read_text(encoding="utf-8")
    assert f'"{operator}"' in page


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        choices: object = action.choices
        if isinstance(choices, dict):
            for inner in cast("dict[str, argparse.ArgumentParser]", choices).values():
                yield inner.prog
                yield from commands(inner)


@pytest.mark.parametrize("command", list(commands(build_parser())))
def test_every_command_is_in_the_reference(command: str) -> None:
    assert command in read("docs/reference/command-line.md").headings
