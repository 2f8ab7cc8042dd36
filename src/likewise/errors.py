"""The errors that Likewise raises, and nothing else.

::

    LikewiseError
    ├── InvalidArgument (ValueError)     a call that could not have worked: top_k=0, a bad name, a bad URL
    │   ├── InvalidFilter                a filter that is malformed or names an unknown column
    │   ├── InvalidRecord                a record that cannot be stored as it is
    │   └── DimensionMismatch            a vector of another length than the collection's
    ├── NotFound (LookupError)
    │   ├── RecordNotFound
    │   └── CollectionNotFound
    ├── RecordExists                     insert() met an id that is already stored
    ├── SchemaMismatch                   the stored collection is not what the specification says
    ├── UnsupportedFeature               this backend, by its capabilities, cannot do that
    ├── OptionalDependencyError (ImportError)   an extra is not installed; the text names it
    ├── ModelNotAvailable                a model that could not be loaded, or whose server refuses
    │   ├── ModelUnreachable             its server does not answer, or wants us to wait too long: retry
    │   └── BudgetExceeded               the tokens that an embedder may spend are used up
    └── BackendError                     the database failed or refused; ``sqlstate`` says why
        ├── BackendUnavailable           no connection, or it was lost: retry
        ├── BackendConflict              a deadlock or serialisation failure: retry
        └── BackendTimeout (TimeoutError)   the deadline passed

Every error carries its facts as attributes, and its text says what happened, where, and how to mend it. Nothing here knows of
HTTP or of a driver.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BackendConflict",
    "BackendError",
    "BackendTimeout",
    "BackendUnavailable",
    "BudgetExceeded",
    "CollectionNotFound",
    "DimensionMismatch",
    "InvalidArgument",
    "InvalidFilter",
    "InvalidRecord",
    "LikewiseError",
    "ModelNotAvailable",
    "ModelUnreachable",
    "NotFound",
    "OptionalDependencyError",
    "RecordExists",
    "RecordNotFound",
    "SchemaMismatch",
    "UnsupportedFeature",
]


class LikewiseError(Exception):
    """Something went wrong in Likewise."""

    #: Whether the same call may succeed if it is made again, unchanged.
    retryable: bool = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class InvalidArgument(LikewiseError, ValueError):
    """The call's arguments cannot work.

    ``position`` is the place (from 0) of what is wrong in a sequence that was given, where the error is about one of several.
    """

    def __init__(self, message: str | None = None, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class InvalidFilter(InvalidArgument):
    """The filter is malformed, or names a column that the collection does not have."""


class InvalidRecord(InvalidArgument):
    """The record cannot be stored as it is.

    ``record_id`` is the record's id where it has one; ``position`` its place (from 0) in the records of the call.
    """

    def __init__(
        self, message: str | None = None, *, record_id: str | None = None, position: int | None = None
    ) -> None:
        super().__init__(message, position=position)
        self.record_id = record_id


class DimensionMismatch(InvalidArgument):
    """The vector's dimension is not the collection's."""

    def __init__(
        self,
        message: str | None = None,
        *,
        expected: int,
        actual: int,
        record_id: str | None = None,
        position: int | None = None,
    ) -> None:
        super().__init__(message or f"expected a vector of dimension {expected}, got {actual}", position=position)
        self.expected = expected
        self.actual = actual
        self.record_id = record_id


class NotFound(LikewiseError, LookupError):
    """What was asked for is not there."""


class RecordNotFound(NotFound):
    """No record has this id."""

    def __init__(self, record_id: str, *, collection: str) -> None:
        super().__init__(f"collection {collection!r} has no record {record_id!r}")
        self.record_id = record_id
        self.collection = collection


class CollectionNotFound(NotFound):
    """No collection has this name."""

    def __init__(self, collection: str, *, known: Sequence[str] = ()) -> None:
        known = sorted(known)
        hint = f"; there are: {', '.join(known[:20])}" if known else "; create it with ensure_collection()"
        super().__init__(f"there is no collection {collection!r}{hint}")
        self.collection = collection
        self.known = tuple(known)


class RecordExists(LikewiseError):
    """A record with this id is already stored; use upsert() to replace it."""

    def __init__(self, record_ids: Sequence[str], *, collection: str) -> None:
        shown = ", ".join(repr(i) for i in record_ids[:5]) + (", …" if len(record_ids) > 5 else "")
        super().__init__(
            f"collection {collection!r} already has {shown}; nothing was inserted: use upsert() to replace records"
        )
        self.record_ids = tuple(record_ids)
        self.collection = collection


class SchemaMismatch(LikewiseError):
    """The stored collection differs from the specification.

    ``differences`` lists each of them as a sentence.
    """

    def __init__(self, message: str, *, collection: str, differences: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.collection = collection
        self.differences = tuple(differences)


class UnsupportedFeature(LikewiseError):
    """This backend cannot do that."""

    def __init__(self, feature: str, *, backend: str, hint: str = "") -> None:
        super().__init__(f"the {backend} backend does not support {feature}" + (f": {hint}" if hint else ""))
        self.feature = feature
        self.backend = backend


class OptionalDependencyError(LikewiseError, ImportError):
    """A package that this feature needs is not installed."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'likewise[{extra}]'")
        self.package = package
        self.extra = extra


class ModelNotAvailable(LikewiseError):
    """A model could not be loaded, or the server that has it refuses, or gives something else."""

    def __init__(self, message: str, *, model: str) -> None:
        super().__init__(message)
        self.model = model


class ModelUnreachable(ModelNotAvailable):
    """The server of a model does not answer, or wants us to wait longer than we may. Retry it later.

    ``attempts`` says how often it was asked, ``retry_after`` how many seconds it wants us to wait, where it said so.
    """

    retryable = True

    def __init__(self, message: str, *, model: str, attempts: int, retry_after: float | None = None) -> None:
        super().__init__(message, model=model)
        self.attempts = attempts
        self.retry_after = retry_after


class BudgetExceeded(ModelNotAvailable):
    """The tokens that an embedder may spend are used up, or would be by this call.

    ``budget``, ``spent`` and ``needed`` are tokens; ``needed`` is what the next request might take.
    """

    def __init__(self, message: str, *, model: str, budget: int, spent: int, needed: int) -> None:
        super().__init__(message, model=model)
        self.budget = budget
        self.spent = spent
        self.needed = needed


class BackendError(LikewiseError):
    """The database reported an error.

    ``sqlstate`` is its five-letter code where the backend speaks SQL.
    """

    def __init__(self, message: str | None = None, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class BackendUnavailable(BackendError):
    """The database cannot be reached, or the connection was lost; nothing of the call was stored. Retry it."""

    retryable = True


class BackendConflict(BackendError):
    """Another transaction was in the way; nothing of the call was stored. Retry it."""

    retryable = True


class BackendTimeout(BackendError, TimeoutError):
    """The deadline passed; nothing of the call was stored."""

    retryable = True
