"""Where models come from: a folder, the cache, a hub that may fail; what is damaged is named, and nothing leads out of the cache."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from likewise import InvalidArgument, ModelNotAvailable, OptionalDependencyError
from likewise.embedding import Loading, Source
from likewise.embedding._hub import ModelFolder, find_model, look_for_model
from likewise.errors import ModelUnreachable

from .hub_server import COMMIT, LATER, Hub, Request, serving

FILES = {"config.json": b"{}", "onnx/model.onnx": bytes(range(256)) * 8192, "tokenizer.json": b'{"version": "1.0"}'}
SUMS = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
NAMES = tuple(FILES)
TOKEN = "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"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """``huggingface_hub`` waits for seconds before it asks again; a token of the user's is there."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(FILES) as hub:
        yield hub


@pytest.fixture
def loading(hub: Hub, tmp_path: Path) -> Loading:
    return Loading(cache_dir=tmp_path / "cache", endpoint=hub.url)


def source(revision: str = COMMIT, *, checksums: dict[str, str] | None = None) -> Source:
    return Source("owner/tiny", revision, NAMES, checksums or {})


def find(source: Source, loading: Loading, **options: Any) -> ModelFolder:
    return find_model("tiny", source, loading, **options)


def offline(loading: Loading) -> Loading:
    return Loading(cache_dir=loading.cache_dir, offline=True)


def on_file(what: int | str, name: str = "model.onnx", *, times: int = 10**6) -> Callable[[Request], int | str | None]:
    """That goes wrong with a file's contents, so many times."""
    left = [times]

    def wrong(request: Request) -> int | str | None:
        if request.method != "GET" or not request.path.endswith(name) or not left[0]:
            return None
        left[0] -= 1
        return what

    return wrong


# --- from the hub -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_model_is_fetched_once_and_found_again_without_the_network(hub: Hub, loading: Loading, revision: str) -> None:
    told: list[tuple[str, int, int | None]] = []
    found = find(source(revision, checksums=SUMS), loading, progress=lambda *what: told.append(what))
    assert found.revision == COMMIT
    assert {name: found.path(name).read_bytes() for name in NAMES} == FILES
    assert found.size == sum(map(len, FILES.values()))
    assert {(name, len(data), len(data)) for name, data in FILES.items()} <= set(told), (
        "each file is reported to its end"
    )
    asked = len(hub.requests)
    again = find(source(revision, checksums=SUMS), offline(loading))
    assert (again.folder, again.revision) == (found.folder, COMMIT)
    find(source(revision), loading)
    assert len(hub.requests) == asked, "what is in the cache is not asked for"


def test_a_branch_that_moves_on_does_not_change_the_model(hub: Hub, loading: Loading) -> None:
    before = find(source("main"), loading)
    hub.commits[LATER] = {**FILES, "config.json": b'{"newer": 1}'}
    hub.branches["main"] = LATER
    after = find(source("main"), loading)
    assert after.path("config.json").read_bytes() == before.path("config.json").read_bytes() == b"{}"
    # Nor when a part of it must be fetched again.
    after.path("tokenizer.json").unlink()
    assert find(source("main"), loading).revision == COMMIT
    assert find(source(LATER), loading).path("config.json").read_bytes() == b'{"newer": 1}'


def test_what_other_programs_fetched_is_copied(
    hub: Hub, loading: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    for name in NAMES:
        huggingface_hub.hf_hub_download(
            "owner/tiny", name, cache_dir=tmp_path / "theirs", endpoint=hub.url, token=False
        )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "theirs"))
    fetched = len(hub.asked("GET", "model.onnx"))
    found = find(source("main"), loading)
    assert {name: found.path(name).read_bytes() for name in NAMES} == FILES
    assert len(hub.asked("GET", "model.onnx")) == fetched
    shutil.rmtree(tmp_path / "theirs")
    assert find(source("main"), offline(loading)).path("onnx/model.onnx").read_bytes() == FILES["onnx/model.onnx"]


def test_no_token_is_sent_to_a_hub_at_another_address(hub: Hub, loading: Loading) -> None:
    find(source("main"), loading)
    assert hub.requests
    assert not [request for request in hub.requests if "authorization" in request.headers]


def test_a_connection_that_breaks_is_gone_on_with(hub: Hub, loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 65_536)
    hub.wrong = on_file("cut", times=1)
    try:
        found = find(source(checksums=SUMS), loading)
    except ModelUnreachable:  # an older huggingface_hub leaves it to the next call to go on
        found = find(source(checksums=SUMS), loading)
    assert found.path("onnx/model.onnx").read_bytes() == FILES["onnx/model.onnx"]
    assert [r.headers["range"] for r in hub.asked("GET", "model.onnx") if "range" in r.headers], (
        "the rest was asked for"
    )


def test_a_connection_that_always_breaks_leaves_nothing_that_looks_complete(hub: Hub, loading: Loading) -> None:
    hub.wrong = lambda request: 503 if request.headers.get("range") else on_file("cut")(request)
    with pytest.raises(ModelNotAvailable) as caught:
        find(source(), loading)
    assert isinstance(caught.value, ModelUnreachable)
    assert caught.value.retryable
    here = look_for_model(source(), loading)
    assert here.missing == ("onnx/model.onnx", "tokenizer.json")
    assert not here.here
    with pytest.raises(ModelNotAvailable, match=r"has not onnx/model\.onnx, tokenizer\.json"):
        find(source(), offline(loading))
    hub.wrong = lambda _: None
    fetched = find(source(checksums=SUMS), loading)
    assert fetched.path("onnx/model.onnx").read_bytes() == FILES["onnx/model.onnx"]
    assert len(hub.asked("GET", "config.json")) == 1, "what was whole is not fetched again"


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (401, r"has no owner/tiny \(.*token in HF_TOKEN"),
        (403, "accepted its terms"),
        (404, "has no owner/tiny"),
        (418, "refuses owner/tiny .* with status 418"),
    ],
)
def test_a_refusal_says_what_the_hub_said(hub: Hub, loading: Loading, status: int, complaint: str) -> None:
    hub.wrong = lambda _: status
    with pytest.raises(ModelNotAvailable, match=complaint) as caught:
        find(source(), loading)
    assert not caught.value.retryable
    assert caught.value.model == "tiny"


@pytest.mark.parametrize("revision", [COMMIT, "main"])
@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_in_trouble_may_be_asked_again(hub: Hub, loading: Loading, status: int, revision: str) -> None:
    hub.wrong = lambda _: status
    with pytest.raises(ModelUnreachable, match=f"status {status}"):
        find(source(revision), loading)


def test_a_hub_that_is_not_there_is_named(tmp_path: Path) -> None:
    loading = Loading(cache_dir=tmp_path, endpoint="http://somebody:secret@127.0.0.1:9")
    for revision in (COMMIT, "main"):
        with pytest.raises(ModelUnreachable, match=r"the hub at 127\.0\.0\.1:9") as caught:
            find(source(revision), loading)
        assert "secret" not in str(caught.value)


def test_what_the_repository_has_not_is_named(hub: Hub, loading: Loading) -> None:
    with pytest.raises(
        ModelNotAvailable, match=r"no such file: owner/tiny \(onnx/other\.onnx\); name another revision"
    ):
        find(Source("owner/tiny", COMMIT, ("config.json", "onnx/other.onnx")), loading)
    with pytest.raises(ModelNotAvailable, match=r"no such revision of owner/tiny \(revision 'v9'\)"):
        find(source("v9"), loading)


def test_contents_that_are_not_what_they_should_be_are_thrown_away(hub: Hub, loading: Loading) -> None:
    hub.wrong = on_file("other")
    with pytest.raises(
        ModelNotAvailable, match=r"onnx/model\.onnx should have the SHA-256 .*removed|removed.*onnx/model\.onnx"
    ):
        find(source(), loading)
    assert look_for_model(source(), loading).missing == ("onnx/model.onnx",)
    hub.wrong = lambda _: None
    # The hub's own ETag agrees with its contents, and the pinned checksum with neither.
    with pytest.raises(ModelNotAvailable, match=r"config\.json should have the SHA-256 0000"):
        find(source(checksums={"config.json": "0" * 64}), loading)
    assert find(source(checksums=SUMS), loading).revision == COMMIT


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"../../../../evil"'},
        {"ETag": '"/tmp/evil"'},
        {"ETag": '"..\\\\evil"'},
        {"ETag": '".."'},
        {"ETag": '""'},
        {"X-Repo-Commit": "../../../../evil"},
        {"X-Repo-Commit": LATER},
        {"X-Repo-Commit": ""},
    ],
)
def test_a_hub_cannot_write_outside_the_cache(hub: Hub, tmp_path: Path, headers: dict[str, str]) -> None:
    hub.wrong = lambda _: headers
    with pytest.raises(
        ModelNotAvailable, match=r"under a name that would lead out of the cache|at another commit than"
    ):
        find(source(), Loading(cache_dir=tmp_path / "a" / "b" / "c" / "cache", endpoint=hub.url))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nor_one_that_gives_another_name_when_it_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    heads = [0]

    def wrong(request: Request) -> dict[str, str] | None:
        heads[0] += request.method == "HEAD"
        return {"ETag": '"/../../../../../../evil"'} if heads[0] % 2 == 0 else None

    hub.wrong = wrong
    cache = tmp_path / "a" / "cache"
    with pytest.raises(ModelNotAvailable):
        find(source(), Loading(cache_dir=cache, endpoint=hub.url))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(cache)]


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(
    hub: Hub, loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tempfile.gettempdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(
        ModelNotAvailable, match=r"onnx/model\.onnx has 2,097,152 bytes, and the disk of .* has 1,000,000 left"
    ):
        find(source(), loading)
    assert not hub.asked("GET", "model.onnx")


def test_errors_do_not_show_the_token(hub: Hub, loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    # The address that the user's environment names is given the user's token, as huggingface_hub does.
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    usual = Loading(cache_dir=loading.cache_dir)
    for wrong in (401, 404, 500):
        hub.wrong = lambda _, wrong=wrong: wrong  # type: ignore[misc]
        with pytest.raises(ModelNotAvailable) as caught:
            find(source("main"), usual)
        assert TOKEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("error", "kind", "complaint"),
    [
        (OSError(errno.ENOSPC, "No space left"), ModelNotAvailable, "is full; LIKEWISE_MODEL_CACHE_DIR"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), ModelNotAvailable, r"/x/y cannot be written"),
        (OSError("Consistency check failed: the url was https://h/?sig=abc"), ModelUnreachable, "not a whole one"),
        (RuntimeError("https://h/?sig=abc"), ModelNotAvailable, "RuntimeError"),
    ],
)
def test_what_fails_on_this_side_is_named_too(
    loading: Loading, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[ModelNotAvailable], complaint: str
) -> None:
    import huggingface_hub

    def fails(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(kind, match=complaint) as caught:
        find(source(), loading)
    assert "sig=abc" not in str(caught.value)


def test_without_huggingface_hub_the_extra_is_named(loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(OptionalDependencyError, match=r"likewise\[models\]"):
        find(source(), loading)


# --- the cache ----------------------------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_file_that_changed_since_is_named_and_can_be_repaired(hub: Hub, loading: Loading, revision: str) -> None:
    found = find(source(revision), loading)
    _flip(found.path("onnx/model.onnx"))
    for how in (loading, offline(loading)):
        with pytest.raises(ModelNotAvailable, match=r"onnx/model\.onnx should have .* likewise models pull tiny"):
            find(source(revision), how)
    with pytest.raises(ModelNotAvailable, match="damaged"):
        find(source(revision), offline(loading), repair=True)
    assert find(source(revision), loading, repair=True).path("onnx/model.onnx").read_bytes() == FILES["onnx/model.onnx"]
    assert len(hub.asked("GET", "tokenizer.json")) == 1, "only what is damaged is fetched again"


def test_a_copied_cache_serves_elsewhere_and_is_checked(loading: Loading, tmp_path: Path) -> None:
    find(source("main"), loading)
    assert loading.cache_dir is not None
    shutil.copytree(loading.cache_dir, tmp_path / "copy")
    elsewhere = Loading(cache_dir=tmp_path / "copy", offline=True)
    found = find(source("main"), elsewhere)
    assert found.revision == COMMIT
    _flip(found.path("config.json"))
    with pytest.raises(ModelNotAvailable, match=r"config\.json should have"):
        find(source("main"), elsewhere)


def test_offline_says_what_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotAvailable) as caught:
        find(source("main"), Loading(cache_dir=tmp_path / "cache", offline=True))
    for part in (
        str(tmp_path / "cache"),
        "owner/tiny",
        "likewise models pull tiny",
        "likewise[models]",
        "LIKEWISE_MODEL_CACHE_DIR",
        "LIKEWISE_MODEL_OFFLINE",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "cache").exists(), "looking leaves nothing behind"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"commit": "x", "checksums": {}}', b'{"commit": 5}', b"\xff{"])
def test_a_damaged_memory_of_the_download_is_named(loading: Loading, content: bytes) -> None:
    find(source("main"), loading)
    assert loading.cache_dir is not None
    (record,) = loading.cache_dir.glob("owner--tiny/*.json")
    record.write_bytes(content)
    with pytest.raises(ModelNotAvailable, match=r"main\.json.*is damaged: delete it"):
        find(source("main"), loading)


def test_a_memory_of_another_commit_is_not_that_of_this_one(loading: Loading) -> None:
    found = find(source(), loading)
    record = found.folder.with_suffix(".json")
    record.write_text(record.read_text().replace(COMMIT, LATER))
    with pytest.raises(ModelNotAvailable, match="is damaged: delete it"):
        find(source(), loading)


def test_what_was_never_checked_to_its_end_is_not_here(hub: Hub, loading: Loading) -> None:
    """As after a crash while a file was copied."""
    found = find(source(), loading)
    assert loading.cache_dir is not None
    (record,) = loading.cache_dir.glob("owner--tiny/*.json")
    record.unlink()
    found.path("onnx/model.onnx").write_bytes(FILES["onnx/model.onnx"][:1000])
    shutil.rmtree(found.folder / ".cache")
    with pytest.raises(ModelNotAvailable, match="files whose download was never finished"):
        find(source(), offline(loading))
    assert find(source(checksums=SUMS), loading, repair=True).path("onnx/model.onnx").stat().st_size == 2_097_152
    record.unlink()
    found.path("onnx/model.onnx").write_bytes(FILES["onnx/model.onnx"][:1000])
    shutil.rmtree(found.folder / ".cache")
    assert find(source(), loading).path("onnx/model.onnx").stat().st_size == 2_097_152
    # What comes with all its checksums needs no memory.
    record.unlink()
    assert find(source(checksums=SUMS), offline(loading)).revision == COMMIT


def test_a_cache_that_cannot_be_written_is_named(loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(**_: object) -> tuple[int, str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    find(source(), loading)
    assert loading.cache_dir is not None
    (record,) = loading.cache_dir.glob("owner--tiny/*.json")
    record.unlink()
    monkeypatch.setattr(tempfile, "mkstemp", refuses)
    with pytest.raises(ModelNotAvailable, match="cannot be written: Permission denied"):
        find(source(), loading)
    (loading.cache_dir.parent / "file").touch()
    with pytest.raises(ModelNotAvailable, match="LIKEWISE_MODEL_CACHE_DIR names another folder"):
        find(source(), Loading(cache_dir=loading.cache_dir.parent / "file", endpoint=loading.endpoint))


# --- a folder -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(data)
    return tmp_path / "mine"


def test_a_folder_is_used_as_it_is(folder: Path) -> None:
    found = find(source(checksums=SUMS), Loading(directory=folder))
    assert (found.folder, found.revision) == (folder, COMMIT)
    unknown = find(source(), Loading(directory=folder))
    assert unknown.revision.startswith("sha256:"), "what is not known to be a commit is not called one"
    _flip(folder / "config.json")
    assert find(source(), Loading(directory=folder)).revision != unknown.revision
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "onnx", "tokenizer.json"], (
        "nothing is written there"
    )


def test_a_folder_that_lacks_a_file_or_holds_a_damaged_one(folder: Path) -> None:
    _flip(folder / "onnx/model.onnx")
    with pytest.raises(ModelNotAvailable, match=r"onnx/model\.onnx should have the SHA-256 .* copy it again"):
        find(source(checksums=SUMS), Loading(directory=folder))
    (folder / "onnx/model.onnx").unlink()
    with pytest.raises(ModelNotAvailable, match=r"lacks onnx/model\.onnx of tiny"):
        find(source(checksums=SUMS), Loading(directory=folder))
    with pytest.raises(ModelNotAvailable, match=r"nowhere lacks config\.json, onnx/model\.onnx, tokenizer\.json"):
        find(source(), Loading(directory=folder / "nowhere"))


def test_a_file_that_is_not_of_the_model_is_not_given(folder: Path) -> None:
    found = find(source(), Loading(directory=folder))
    for name in ("../secret", "other.json"):
        with pytest.raises(InvalidArgument, match="is not one of the files of tiny"):
            found.path(name)
