"""What may name a repository, a revision and a file: nothing that could lead out of a folder."""

from __future__ import annotations

import pytest

from likewise import InvalidArgument
from likewise.embedding import Loading, Source

from .hub_server import COMMIT

NAMES = ("config.json", "tokenizer.json")
BAD_PATHS = [
    "",
    "/etc/passwd",
    "../up",
    "a/../../up",
    "a/./b",
    "a//b",
    "a/",
    "C:\\x",
    "a\\b",
    "C:/x",
    "a\0b",
    "a\nb",
    "..",
    "...",
    ". .",
    "a./b",
    "a /b",
    "~/x",
    "a?b",
]


@pytest.mark.parametrize("name", BAD_PATHS)
def test_paths_that_could_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="plain relative path"):
        Source("owner/tiny", COMMIT, ("config.json", name))
    with pytest.raises(InvalidArgument, match="a revision"):
        Source("owner/tiny", name, NAMES)


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "../x", "/x", "owner/..", "owner/a..b", "owner/", "owner/a b", "-x/y", "http://h/x"]
)
def test_names_of_repositories_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot name a repository"):
        Source(name, COMMIT, NAMES)


def test_other_nonsense_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="without files"):
        Source("owner/tiny", COMMIT, ())
    for sums in ({"config.json": "abc"}, {"config.json": "A" * 64}, {"other": "0" * 64}):
        with pytest.raises(InvalidArgument, match="is not the SHA-256 of one of the files"):
            Source("owner/tiny", COMMIT, NAMES, sums)
    with pytest.raises(InvalidArgument, match="threads is 0"):
        Loading(threads=0)
    plain = Source("owner/tiny", "main", NAMES, {NAMES[0]: "0" * 64})
    assert plain.at(None) is plain.at("main") is plain
    assert plain.at("v2") == Source("owner/tiny", "v2", NAMES)
