"""Random records and filters over a small vocabulary, so that they meet; the same seed gives the same ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from likewise import (
    And,
    Between,
    Column,
    Contains,
    ContainsAll,
    ContainsAny,
    EndsWith,
    Eq,
    Exists,
    Filter,
    Gt,
    Gte,
    In,
    IsNull,
    Like,
    Lt,
    Lte,
    Metadata,
    Ne,
    Not,
    NotIn,
    Or,
    Record,
    StartsWith,
    TextMatch,
)

KEYS = ["a", "b", "c", "it's", 'q"', "", "a.b", "$x", "0", "%s"]
TEXTS = [
    "",
    "a",
    "b",
    "ab",
    "A",
    "é",
    "É",
    "x%y",
    "x_y",
    "\\",
    "it's",
    "; drop table",
    "z\n",
    "10",
    "日本",
    "true",
    "%s",
]
NUMBERS: list[float] = [0, 1, -1, 1.0, -2, -2.0, 0.1, 1e20, 10**30, 2.5, -0.0, 1e-7, 9_007_199_254_740_993]
SCALARS: list[Any] = [None, True, False, *NUMBERS, *TEXTS]
PATTERNS = ["%", "_", "a%", "%b", "x\\%y", "x_y", "%_%", "\\\\", "", "A", "%\n"]
WORDS = ["a", "é", "É a", "", "x y", "日", "DROP", " \t "]


class Generator:
    """Draws records and filters."""

    def __init__(self, seed: int, *, multimodal: bool = True) -> None:
        self.random = random.Random(seed)
        self.columns = ["id", "content", "modality", "content_id"] if multimodal else ["id", "content"]
        self.multimodal = multimodal

    def value(self, depth: int = 0) -> Any:
        draw = self.random.random()
        if draw < 0.6 or depth > 2:
            return self.random.choice(SCALARS)
        if draw < 0.8:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return {self.random.choice(KEYS): self.value(depth + 1) for _ in range(self.random.randrange(3))}

    def vector(self, dimension: int = 3) -> list[float]:
        return [self.random.choice([-1.0, 1.0]) * self.random.uniform(0.05, 1) for _ in range(dimension)]

    def record(self, record_id: str, dimension: int = 3) -> Record:
        metadata = {self.random.choice(KEYS): self.value() for _ in range(self.random.randrange(5))}
        content = self.random.choice([None, *TEXTS])
        if not self.multimodal:
            return Record(record_id, self.vector(dimension), metadata, content)
        return Record(
            record_id,
            self.vector(dimension),
            metadata,
            content,
            modality=self.random.choice(("text", "image")),
            content_id=self.random.choice([None, "x", "a", ""]),
        )

    def records(self, count: int, dimension: int = 3) -> list[Record]:
        return [self.record(f"{self.random.choice(['r', 'R', 'é', chr(39)])}{i}", dimension) for i in range(count)]

    def _field(self) -> Metadata | Column:
        if self.random.random() < 0.15:
            return Column(self.random.choice(self.columns))
        return Metadata(*[self.random.choice(KEYS) for _ in range(self.random.choice([1, 1, 1, 2, 3]))])

    def _list(self, draw: Callable[[], Any], lengths: Sequence[int]) -> list[Any]:
        return [draw() for _ in range(self.random.choice(lengths))]

    def filter(self, depth: int = 0) -> Filter:
        draw = self.random.random()
        if depth < 3 and draw < 0.25:
            kind = self.random.choice((And, Or))
            return kind(*[self.filter(depth + 1) for _ in range(self.random.randrange(4))])
        if depth < 3 and draw < 0.4:
            return Not(self.filter(depth + 1))
        return self._condition(self._field())

    def _condition(self, field: Metadata | Column) -> Filter:
        def text() -> str:
            return self.random.choice(TEXTS)

        def number() -> float:
            return self.random.choice(NUMBERS)

        value: Callable[[], Any] = text if isinstance(field, Column) else self.value
        bound: Callable[[], Any] = text if isinstance(field, Column) or self.random.random() < 0.5 else number
        makers: list[Callable[[], Filter]] = [
            lambda: Eq(field, value()),
            lambda: Ne(field, value()),
            lambda: In(field, self._list(value, (0, 1, 2, 20))),
            lambda: NotIn(field, self._list(value, (0, 1, 2, 20))),
            lambda: self.random.choice((Gt, Gte, Lt, Lte))(field, bound()),
            lambda: Between(field, bound(), bound()),
            lambda: Exists(field),
            lambda: IsNull(field),
            lambda: StartsWith(field, text()),
            lambda: EndsWith(field, text()),
            lambda: Like(field, self.random.choice(PATTERNS)),
            lambda: TextMatch(field, self.random.choice(WORDS)),
        ]
        if isinstance(field, Metadata):

            def scalar() -> Any:
                return self.random.choice(SCALARS)

            makers += [
                lambda: Contains(field, scalar()),
                lambda: ContainsAny(field, self._list(scalar, (0, 1, 2))),
                lambda: ContainsAll(field, self._list(scalar, (0, 1, 2))),
            ]
        return self.random.choice(makers)()
