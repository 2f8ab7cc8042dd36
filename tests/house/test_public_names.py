"""The public names: those of ``likewise.__all__``, sorted, importable and documented."""

from __future__ import annotations

import inspect

import pytest

import likewise
from likewise import errors

NAMES: list[str] = list(getattr(likewise, "__all__", ()))


def test_all_is_there_sorted_and_without_repetition() -> None:
    assert NAMES, "likewise.__all__ is missing"
    assert len(NAMES) == len(set(NAMES))
    assert NAMES in (sorted(NAMES), _as_ruff_sorts(NAMES))


def _as_ruff_sorts(names: list[str]) -> list[str]:
    """The order of ruff's RUF022: constants, then classes, then the rest, each in alphabetical order."""

    def key(name: str) -> tuple[int, str]:
        if name.isupper() and len(name) > 1:
            return 0, name
        return (1 if name[:1].isupper() else 2), name

    return sorted(names, key=key)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(likewise, name)
    if not inspect.isclass(value) and not inspect.isroutine(value):
        return
    text = inspect.getdoc(value) if inspect.isroutine(value) else value.__doc__
    assert text, f"likewise.{name} has no docstring"
    assert text.strip()
    assert not text.startswith(f"{name}("), f"likewise.{name} has only the docstring that dataclass made up"


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_listed(name: str) -> None:
    assert name in dir(likewise)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_public(name: str) -> None:
    assert name in NAMES
    assert getattr(likewise, name) is getattr(errors, name)


def test_every_error_is_in_the_list_and_in_the_tree() -> None:
    defined = {n for n, v in vars(errors).items() if inspect.isclass(v) and v.__module__ == errors.__name__}
    assert defined == set(errors.__all__)
    for name in sorted(defined):
        assert issubclass(getattr(errors, name), errors.LikewiseError)
        assert name in (errors.__doc__ or ""), f"{name} is missing in the tree that the docstring of errors.py draws"
