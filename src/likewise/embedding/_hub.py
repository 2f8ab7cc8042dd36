"""Where a model's files are: a folder of the user's, the cache, or the Hugging Face hub. What is handed on is all there, and checked.

The cache holds ordinary files, ``OWNER--NAME/COMMIT/FILE``, so that it can be copied anywhere, and so that ONNX Runtime finds weights beside
their graph: it does not follow the links of ``huggingface_hub``'s own cache. Beside them ``OWNER--NAME/REVISION.json`` remembers the
commit that was found at the first download and the SHA-256 of each file: a branch that moves on does not change a model under its
user, and every later load is checked. What was never checked to its end does not count as here. The network is in ``_download``, and
only there. No environment is read here; the registry does that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import urllib.parse
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from likewise.errors import InvalidArgument, ModelNotAvailable

__all__ = ["FromFiles", "Loading", "ModelFiles", "ModelFolder", "Progress", "Source", "find_model", "look_for_model"]

#: Told of a download as it goes on: the file's name, the bytes that are here, and the bytes that it has (None while that is not known).
Progress: TypeAlias = Callable[[str, int, int | None], None]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_RECORD_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's files come from.

    ``repository`` is a name on the Hugging Face hub (``"BAAI/bge-m3"``), ``revision`` a commit (40 hexadecimal digits), or a branch or tag
    where no commit is pinned. ``files`` are paths inside the repository, all of them needed; ``checksums`` gives the SHA-256 of those
    for which it is known.
    """

    repository: str
    revision: str
    files: tuple[str, ...]
    checksums: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        parts = self.repository.split("/")
        if len(parts) > 2 or not all(_NAME.fullmatch(part) and ".." not in part for part in parts):
            raise InvalidArgument(f"{self.repository!r:.120} cannot name a repository: write OWNER/NAME")
        # One part of a path, or several: "refs/pr/1" is a revision.
        _check_path(self.revision, "a revision")
        if not self.files:
            raise InvalidArgument(f"the repository {self.repository} is given without files")
        for name in self.files:
            _check_path(name, "a model's file")
        for name, digest in self.checksums.items():
            if name not in self.files or not _SHA256.fullmatch(digest):
                raise InvalidArgument(
                    f"the checksum of {name!r:.120} is not the SHA-256 of one of the files, in 64 lowercase hexadecimal digits"
                )

    def at(self, revision: str | None) -> Source:
        """The same files at another revision, whose checksums are not known; unchanged if that is None, or this one."""
        if revision is None or revision == self.revision:
            return self
        return Source(self.repository, revision, self.files)


@dataclass(frozen=True, slots=True)
class Loading:
    """How a model is found.

    ``directory`` is a folder that holds the files in the layout of the repository; then nothing else is looked at, and nothing fetched.
    ``cache_dir`` is where downloads are kept, the user's cache folder unless given. With ``offline`` the network is not touched.
    ``threads`` are those of the runtime, as many as there are processors, at most four, unless given. ``endpoint`` is the address of
    a hub that is not the usual one; no token is sent there.
    """

    directory: Path | None = None
    cache_dir: Path | None = None
    offline: bool = False
    threads: int | None = None
    endpoint: str | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise InvalidArgument(f"threads is {self.threads}; it must be at least 1")

    @property
    def cache(self) -> Path:
        """The folder where downloads are kept."""
        if self.cache_dir is not None:
            return self.cache_dir
        import platformdirs

        return platformdirs.user_cache_path("likewise", appauthor=False) / "models"


@runtime_checkable
class FromFiles(Protocol):
    """An embedder whose files can be fetched beforehand (``likewise models pull``) and looked at (``likewise models show``)."""

    @property
    @abstractmethod
    def source(self) -> Source:
        """Where its files come from."""

    @property
    @abstractmethod
    def loading(self) -> Loading:
        """How they are found."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model's files, all there and checked.

    ``folder`` holds them in the layout of the repository, ``sizes`` are their bytes. ``revision`` is the commit that was found; of a folder
    of the user's, which has none, it is the revision asked for if all checksums of that are known, else ``sha256:`` and the beginning
    of a checksum of the files.
    """

    model: str
    folder: Path
    revision: str
    sizes: Mapping[str, int]

    def path(self, name: str) -> Path:
        """Where a file is; ``name`` is its path inside the repository. ``InvalidArgument`` for one that is not of the model."""
        if name not in self.sizes:
            raise InvalidArgument(f"{name!r} is not one of the files of {self.model}: {', '.join(self.sizes)}")
        return self.folder / name

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return sum(self.sizes.values())


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What is here of a model's files; none of them was read.

    ``folder`` is where they are, or were looked for; ``revision`` the commit, or the branch while nothing of it is here; ``sizes`` the bytes
    of the files that are here, and ``missing`` the others.
    """

    repository: str
    revision: str
    folder: Path
    sizes: Mapping[str, int]
    missing: tuple[str, ...]

    @property
    def here(self) -> bool:
        """Whether all files are here."""
        return not self.missing

    @property
    def size(self) -> int:
        """The bytes of the files that are here."""
        return sum(self.sizes.values())


def find_model(
    model: str, source: Source, loading: Loading, *, progress: Progress | None = None, repair: bool = False
) -> ModelFolder:
    """The files of a model, fetched if they are not here and may be.

    ``repair`` fetches a damaged file again rather than raise. ``ModelNotAvailable`` says what was tried and how to get the model,
    or which file is damaged; ``ModelUnreachable`` that the hub does not answer. ``OptionalDependencyError`` if ``huggingface_hub`` is
    needed and not installed.
    """
    found = look_for_model(source, loading)
    if loading.directory is not None:
        if not found.here:
            raise _not_here(model, source, loading, found)
        return _checked_directory(model, source, found)
    record = _read_record(model, source, loading)
    known = dict(source.checksums)
    if record:
        known = {**record.checksums, **known}
    wanted = tuple(name for name in source.files if name not in found.sizes or name not in known)
    damaged = _differences(model, found, known)
    if damaged and (loading.offline or not repair):
        raise _damaged(model, found.folder, damaged, directory=False)
    if loading.offline and wanted:
        raise _not_here(model, source, loading, found)
    if wanted or damaged:
        from likewise.embedding._download import download

        names = tuple(name for name in source.files if name in wanted or name in damaged)
        commit, given = download(
            model, source, loading, commit=found.revision, names=names, force=tuple(damaged), progress=progress
        )
        found = _look_at(source, _repository_folder(source, loading) / commit, commit)
        known = {**given, **known}
        if damaged := _differences(model, found, known):
            for name in damaged:
                (found.folder / name).unlink(missing_ok=True)
            raise ModelNotAvailable(
                f"what was fetched for {model} is not what it should be, and was removed: {_sums(damaged)}. Fetch it again with: likewise "
                f"models pull {model}",
                model=model,
            )
        sums = {name: known.get(name) or _sha256(model, found.folder / name) for name in source.files}
        remembered = record.checksums if record else {}
        _write_record(_record_path(source, loading), _Record(found.revision, {**remembered, **sums}))
    return ModelFolder(model, found.folder, found.revision, found.sizes)


def look_for_model(source: Source, loading: Loading) -> ModelFiles:
    """What is here of a model's files. Asks no network and reads no file of the model."""
    if loading.directory is not None:
        return _look_at(source, loading.directory, source.revision)
    record = _read_record("", source, loading)
    commit = record.commit if record else source.revision
    return _look_at(source, _repository_folder(source, loading) / urllib.parse.quote(commit, safe=""), commit)


# --- the cache ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Record:
    """What was remembered of a download: the commit, and the SHA-256 of each file."""

    commit: str
    checksums: Mapping[str, str]


def _repository_folder(source: Source, loading: Loading) -> Path:
    return loading.cache / source.repository.replace("/", "--")


def _record_path(source: Source, loading: Loading) -> Path:
    return _repository_folder(source, loading) / (urllib.parse.quote(source.revision, safe="") + ".json")


def _look_at(source: Source, folder: Path, revision: str) -> ModelFiles:
    sizes: dict[str, int] = {}
    for name in source.files:
        path = folder / name
        if path.is_file():
            sizes[name] = path.stat().st_size
    missing = tuple(name for name in source.files if name not in sizes)
    return ModelFiles(source.repository, revision, folder, sizes, missing)


def _read_record(model: str, source: Source, loading: Loading) -> _Record | None:
    path = _record_path(source, loading)
    try:
        with path.open("rb") as file:
            data = file.read(_RECORD_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelNotAvailable(f"{path} cannot be read: {error.strerror}", model=model or source.repository) from error
    try:
        document = json.loads(data)
        commit, checksums = document["commit"], dict(document["checksums"])
        if not all(_SHA256.fullmatch(digest) for digest in checksums.values()) or not _COMMIT.fullmatch(commit):
            raise ValueError("a commit or a checksum is not one")
        if _COMMIT.fullmatch(source.revision) and commit != source.revision:
            raise ValueError("it is of another commit")
    except (ValueError, KeyError, TypeError) as error:
        raise ModelNotAvailable(
            f"{path}, which remembers the checksums of the model's files, is damaged: delete it, and fetch the model again with: likewise "
            f"models pull {model or 'NAME'}",
            model=model or source.repository,
        ) from error
    return _Record(commit, checksums)


def _write_record(path: Path, record: _Record) -> None:
    text = json.dumps({"commit": record.commit, "checksums": dict(record.checksums)}, indent=1) + "\n"
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError as error:
        raise ModelNotAvailable(
            f"{path}, which is to remember the checksums of a model's files, cannot be written: {error.strerror}",
            model=path.parent.name,
        ) from error


# --- checks -------------------------------------------------------------------------------------------------------------------------


def _differences(model: str, found: ModelFiles, known: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The files that are here and not as they should be, each with the checksum it should have, and has."""
    actual = {name: _sha256(model, found.folder / name) for name in found.sizes if name in known}
    return {name: (known[name], digest) for name, digest in actual.items() if digest != known[name]}


def _checked_directory(model: str, source: Source, found: ModelFiles) -> ModelFolder:
    actual = {name: _sha256(model, found.folder / name) for name in source.files}
    damaged = {name: (digest, actual[name]) for name, digest in source.checksums.items() if digest != actual[name]}
    if damaged:
        raise _damaged(model, found.folder, damaged, directory=True)
    revision = source.revision
    if len(source.checksums) < len(source.files):
        revision = (
            "sha256:" + hashlib.sha256("\n".join(actual[name] for name in source.files).encode()).hexdigest()[:16]
        )
    return ModelFolder(model, found.folder, revision, found.sizes)


def _sha256(model: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelNotAvailable(f"{path}, a file of {model}, cannot be read: {error.strerror}", model=model) from error


def _check_path(name: str, what: str) -> None:
    """``InvalidArgument`` if a path inside a repository would lead out of it, or is no path on some system."""
    parts = name.split("/")
    # Windows takes a dot or a blank at the end of a name away, so that "..." would be "..".
    if not all(
        re.fullmatch(r"[A-Za-z0-9_@+=,.-][A-Za-z0-9_@+=,. -]*", part) and part[-1] not in ". " for part in parts
    ):
        raise InvalidArgument(
            f"{name!r:.120} cannot name {what}: it must be a plain relative path with forward slashes"
        )


# --- what is said -------------------------------------------------------------------------------------------------------------------


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _sums(damaged: Mapping[str, tuple[str, str]]) -> str:
    return "; ".join(
        f"{name} should have the SHA-256 {wanted[:12]}…, and has {actual[:12]}…"
        for name, (wanted, actual) in damaged.items()
    )


def _damaged(model: str, folder: Path, damaged: Mapping[str, tuple[str, str]], *, directory: bool) -> ModelNotAvailable:
    cure = (
        "copy it again, or name a revision of your own if these are weights of your own"
        if directory
        else f"fetch it again with: likewise models pull {model}"
    )
    return ModelNotAvailable(f"files of {model} in {folder} are damaged: {_sums(damaged)}; {cure}", model=model)


def _not_here(model: str, source: Source, loading: Loading, found: ModelFiles) -> ModelNotAvailable:
    if loading.directory is not None:
        return ModelNotAvailable(
            f"the folder {loading.directory} lacks {_listed(found.missing)} of {model}: it must hold the files of {source.repository} in the "
            "layout of that repository; without a folder the model is looked for in the cache and fetched from the hub",
            model=model,
        )
    part = f"not {_listed(found.missing)}" if found.missing else "files whose download was never finished"
    if not found.sizes:
        part = "nothing of it"
    return ModelNotAvailable(
        f"{model} is not on this machine: the cache {loading.cache} has {part}, and the hub was not asked for {source.repository}, because "
        f"loading is offline. Fetch it where there is a network with: likewise models pull {model} (it needs pip install "
        "'likewise[models]'), and copy the cache folder here; LIKEWISE_MODEL_CACHE_DIR says where it is, and LIKEWISE_MODEL_OFFLINE=0 "
        "allows the network",
        model=model,
    )
