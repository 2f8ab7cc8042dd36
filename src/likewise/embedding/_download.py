"""Fetches the files of a model from the Hugging Face hub, by ``huggingface_hub``. Nothing else of Likewise asks the hub.

The package writes to a file of another name and renames it when it is whole, goes on where a broken connection stopped (the current
version within a call, older ones at the next), and follows the hub's redirects. Here its errors become ours. They may quote addresses with signatures in them, so their text is not repeated.
"""

from __future__ import annotations

import errno
import inspect
import logging
import re
import shutil
import time
import urllib.parse
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from likewise.errors import ModelNotAvailable, ModelUnreachable, OptionalDependencyError

if TYPE_CHECKING:
    from likewise.embedding._hub import Loading, Progress, Source

__all__ = ["download"]

_log = logging.getLogger("likewise.embedding")

#: Seconds before a hub in trouble is asked again for what is small; ``huggingface_hub`` does so by itself for what is large.
WAITS = (1.0, 2.0, 4.0)
_COMMIT = re.compile("[0-9a-f]{40}")
_ETAG = re.compile("[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
#: Exceptions from these packages mean that the network failed.
_NETWORK = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet"})


def download(
    model: str,
    source: Source,
    loading: Loading,
    *,
    commit: str,
    names: Sequence[str],
    force: Collection[str],
    progress: Progress | None,
) -> tuple[str, dict[str, str]]:
    """Fetch files of a repository into the cache, all at one commit; that commit, and the SHA-256 of those for which the hub says it.

    ``commit`` may be a branch or tag; its commit is asked for first. What is in ``force`` is fetched though it is there.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise OptionalDependencyError("huggingface-hub", extra="models") from error
    # A token that the user keeps for the usual hub is not for another one.
    token = False if loading.endpoint else None

    def asked(where: str, function: Callable[[], Any], waits: Sequence[float] = ()) -> Any:
        """What the hub answers; asked again after each of the waits if that may help."""
        for attempt, wait in enumerate((*waits, None), 1):
            try:
                return function()
            except Exception as error:
                translated = _translated(model, source, loading, where, error, attempt)
                if wait is None or not translated.retryable:
                    raise translated from error
                time.sleep(wait)
        raise AssertionError("unreachable")

    if not _COMMIT.fullmatch(commit):
        api = huggingface_hub.HfApi(endpoint=loading.endpoint, token=token)
        info = asked(
            f"revision {commit!r}", partial(api.model_info, source.repository, revision=commit, timeout=30), WAITS
        )
        if not _COMMIT.fullmatch(info.sha or ""):
            raise ModelNotAvailable(f"the hub names no commit for {source.repository} at {commit!r}", model=model)
        commit = str(info.sha)
    folder = loading.cache / source.repository.replace("/", "--") / commit
    given: dict[str, str] = {}
    _log.info("fetching %s of %s from %s", ", ".join(names), model, _host(loading.endpoint), extra={"model": model})
    for name in names:
        url = huggingface_hub.hf_hub_url(source.repository, name, revision=commit, endpoint=loading.endpoint)
        metadata = asked(name, partial(huggingface_hub.get_hf_file_metadata, url, token=token), WAITS)
        _check(model, source, loading, name, commit, metadata)
        fetch = partial(
            huggingface_hub.hf_hub_download,
            source.repository,
            name,
            revision=commit,
            local_dir=folder,
            endpoint=loading.endpoint,
            token=token,
            force_download=name in force,
            **_reporting(huggingface_hub.hf_hub_download, name, progress),
        )
        path = Path(asked(name, fetch))
        # Of large files the tag is the SHA-256, of small ones something else.
        if re.fullmatch("[0-9a-f]{64}", metadata.etag):
            given[name] = metadata.etag
        if progress is not None:
            size = path.stat().st_size
            progress(name, size, size)
    return commit, given


def _check(model: str, source: Source, loading: Loading, name: str, commit: str, metadata: Any) -> None:
    """``ModelNotAvailable`` if a file cannot be fetched as the hub describes it.

    ``huggingface_hub`` makes file names of the ``ETag`` and the commit that it is told, whatever they are.
    """
    if metadata.commit_hash != commit:
        raise ModelNotAvailable(
            f"{_host(loading.endpoint)} gives {source.repository} ({name}) at another commit than {commit}, which was asked for",
            model=model,
        )
    if not _ETAG.fullmatch(metadata.etag or ""):
        raise ModelNotAvailable(
            f"{_host(loading.endpoint)} gives {source.repository} ({name}) under a name that would lead out of the cache, or none: it is "
            "not a hub to trust",
            model=model,
        )
    try:
        loading.cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(loading.cache).free
    except OSError as error:
        raise ModelNotAvailable(
            f"{loading.cache} cannot be written ({error.strerror}); LIKEWISE_MODEL_CACHE_DIR names another folder",
            model=model,
        ) from error
    if metadata.size is not None and metadata.size > free:
        raise ModelNotAvailable(
            f"{model} cannot be fetched: {name} has {metadata.size:,} bytes, and the disk of {loading.cache} has {free:,} left; "
            "LIKEWISE_MODEL_CACHE_DIR names another folder",
            model=model,
        )


def _reporting(function: Any, name: str, progress: Progress | None) -> dict[str, Any]:
    """The argument that makes ``huggingface_hub`` report to ``progress`` rather than draw a bar; an old version has none."""
    if "tqdm_class" not in inspect.signature(function).parameters:
        return {}
    farthest = 0

    class Reporting:
        """What ``huggingface_hub`` takes for a ``tqdm`` bar; it makes several for one file, so the farthest of them counts."""

        def __init__(self, *_: Any, total: float | None = None, initial: float = 0, **__: Any) -> None:
            self.total = total
            self.n = initial

        def update(self, n: float | None = 1) -> None:
            nonlocal farthest
            self.n += n or 0
            farthest = max(farthest, int(self.n))
            if progress is not None:
                progress(name, farthest, None if self.total is None else max(int(self.total), farthest))

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def close(self, *_: Any, **__: Any) -> None:
            pass

        refresh = reset = set_description = set_description_str = set_postfix_str = close

    return {"tqdm_class": Reporting}


def _translated(
    model: str, source: Source, loading: Loading, where: str, error: Exception, attempts: int
) -> ModelNotAvailable:
    from huggingface_hub import errors

    asked = f"{source.repository} ({where})" if where else source.repository
    hub = _host(loading.endpoint)
    # What failed underneath, where the package wraps it.
    inner = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
    status = getattr(getattr(inner, "response", None), "status_code", None)
    said = f"status {status}" if status else type(inner).__name__

    def refused(text: str) -> ModelNotAvailable:
        return ModelNotAvailable(f"{model} cannot be fetched: {text}", model=model)

    if isinstance(inner, errors.OfflineModeIsEnabled):
        return refused(
            "HF_HUB_OFFLINE is set, so huggingface_hub asks no network; unset it, or copy the cache folder from elsewhere"
        )
    if isinstance(inner, errors.GatedRepoError):
        return refused(f"{hub} gives {asked} only to those who accepted its terms, and whose token is in HF_TOKEN")
    if isinstance(inner, errors.RevisionNotFoundError):
        return refused(f"{hub} has no such revision of {asked}")
    if isinstance(inner, errors.RepositoryNotFoundError):
        return refused(f"{hub} has no {asked}, or gives it only to those with a token in HF_TOKEN ({said})")
    if isinstance(inner, errors.EntryNotFoundError) and not isinstance(inner, errors.LocalEntryNotFoundError):
        return refused(f"{hub} has no such file: {asked}; name another revision")
    if isinstance(status, int) and status < 500 and status not in (408, 425, 429):
        return refused(f"{hub} refuses {asked} with {said}")
    if isinstance(inner, OSError) and inner.errno in (errno.ENOSPC, errno.EDQUOT):
        return refused(f"the disk of {loading.cache} is full; LIKEWISE_MODEL_CACHE_DIR names another folder")
    if isinstance(inner, PermissionError | NotADirectoryError | FileExistsError):
        return refused(
            f"{inner.filename} cannot be written ({inner.strerror}); LIKEWISE_MODEL_CACHE_DIR names another folder"
        )
    network = type(inner).__module__.partition(".")[0] in _NETWORK or isinstance(inner, OSError)
    if status or network:
        return ModelUnreachable(
            f"{model} cannot be fetched: no answer, or not a whole one, from {hub} for {asked} ({said}). Try again; what had come of other files "
            f"is kept. Or fetch it elsewhere with: likewise models pull {model}, and copy {loading.cache}",
            model=model,
            attempts=attempts,
        )
    return refused(f"{asked} from {hub} ({said})")


def _host(endpoint: str | None) -> str:
    """The hub's address, without what may be secret in it."""
    if endpoint is None:
        from huggingface_hub import constants

        endpoint = constants.ENDPOINT
    parts = urllib.parse.urlsplit(endpoint)
    return f"the hub at {parts.hostname}" + (f":{parts.port}" if parts.port else "")
