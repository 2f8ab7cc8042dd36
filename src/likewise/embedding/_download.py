"""Fetches the files of a model from the Hugging Face hub, by ``huggingface_hub``. Nothing else of Likewise asks the hub.

The package writes to a file of another name and renames it when it is whole, goes on where a broken connection stopped, and follows the
hub's redirects. Here its errors become ours. They may quote addresses with signatures in them, so their text is not repeated.
"""

from __future__ import annotations

import errno
import inspect
import re
import urllib.parse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from likewise.errors import LikewiseError, ModelNotAvailable, ModelUnreachable, OptionalDependencyError

if TYPE_CHECKING:
    from likewise.embedding._hub import Loading, Progress, Source

__all__ = ["download"]

#: Exceptions from these packages mean that the network failed.
_NETWORK = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet"})


def download(
    model: str,
    source: Source,
    loading: Loading,
    *,
    commit: str,
    names: Sequence[str],
    force: bool,
    progress: Progress | None,
) -> str:
    """Fetch files of a repository into the cache, all at one commit, and give that commit.

    ``commit`` may be a branch or tag; its commit is asked for first. ``force`` fetches what is there already.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise OptionalDependencyError("huggingface-hub", extra="models") from error
    # A token that the user keeps for the usual hub is not for another one.
    token = False if loading.endpoint else None
    where = ""
    try:
        if not re.fullmatch("[0-9a-f]{40}", commit):
            where = f"revision {commit!r}"
            info = huggingface_hub.HfApi(endpoint=loading.endpoint, token=token).model_info(
                source.repository, revision=commit, timeout=30
            )
            if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
                raise ModelNotAvailable(f"the hub names no commit for {source.repository} at {commit!r}", model=model)
            commit = str(info.sha)
        loading.cache.mkdir(parents=True, exist_ok=True)
        for name in names:
            where = name
            huggingface_hub.hf_hub_download(
                source.repository,
                name,
                revision=commit,
                cache_dir=loading.cache,
                endpoint=loading.endpoint,
                token=token,
                force_download=force,
                **_reporting(huggingface_hub.hf_hub_download, name, progress),
            )
    except LikewiseError:
        raise
    except Exception as error:
        raise _translated(model, source, loading, where, error) from error
    return commit


def _reporting(function: Any, name: str, progress: Progress | None) -> dict[str, Any]:
    """The argument that makes ``huggingface_hub`` report to ``progress`` rather than draw a bar; an old version has no such argument."""
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


def _translated(model: str, source: Source, loading: Loading, where: str, error: Exception) -> ModelNotAvailable:
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
            f"{model} cannot be fetched: {hub} does not give {asked} whole ({said}); what came is kept apart until it is whole. Try again, or "
            f"fetch it elsewhere with: likewise models pull {model}, and copy {loading.cache}",
            model=model,
            attempts=1,
        )
    return refused(f"{asked} from {hub} ({said})")


def _host(endpoint: str | None) -> str:
    """The hub's address, without what may be secret in it."""
    if endpoint is None:
        from huggingface_hub import constants

        endpoint = constants.ENDPOINT
    parts = urllib.parse.urlsplit(endpoint)
    return f"the hub at {parts.hostname}" + (f":{parts.port}" if parts.port else "")
