"""How files become records, as a value that is stored with the collection: for each stage a closed union told apart by ``kind``.

What is chosen once is kept: later ingestions into the collection, whoever runs them, read and cut in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from likewise.abc.embedder import Embedder
from likewise.errors import InvalidArgument
from likewise.ingest.chunking import (
    MAX_CHARACTERS,
    Chunker,
    HeadingsConfig,
    SemanticConfig,
    SentencesConfig,
    TokensConfig,
    make_chunker,
)
from likewise.ingest.chunking import from_json as chunking_from_json
from likewise.ingest.chunking import to_json as chunking_to_json
from likewise.ingest.chunking.chunk import check_number

__all__ = ["CutConfig", "IngestConfig", "ParagraphsConfig"]


@dataclass(frozen=True, slots=True)
class ParagraphsConfig:
    """``{"kind": "paragraphs", "max_characters": 1000}``: at the ends of paragraphs; no model is asked. What is done where nothing was chosen."""

    kind: ClassVar[Literal["paragraphs"]] = "paragraphs"
    max_characters: int = MAX_CHARACTERS

    def __post_init__(self) -> None:
        check_number("max_characters", self.max_characters, least=1)


#: Every way to cut, told apart by ``kind``.
CutConfig: TypeAlias = ParagraphsConfig | TokensConfig | SentencesConfig | HeadingsConfig | SemanticConfig

_KEYS = ("chunking",)


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """How files are cut for a collection. ``to_json`` and ``from_json`` are how it is stored."""

    chunking: CutConfig = field(default_factory=ParagraphsConfig)

    def to_json(self) -> dict[str, Any]:
        """The configuration as an object of JSON; ``from_json`` makes it again."""
        if isinstance(self.chunking, ParagraphsConfig):
            return {"chunking": {"kind": "paragraphs", "max_characters": self.chunking.max_characters}}
        return {"chunking": chunking_to_json(self.chunking)}

    @classmethod
    def from_json(cls, value: object) -> IngestConfig:
        """The configuration that an object of JSON says; what it leaves out is as where nothing was chosen.

        ``InvalidArgument`` names what is wrong: a key that is not known, a ``kind`` that is not, a value that cannot be.
        """
        if not isinstance(value, Mapping):
            raise InvalidArgument(f"a configuration of ingestion is an object, not {value!r:.80}")
        unknown = [key for key in value if key not in _KEYS]
        if unknown:
            raise InvalidArgument(
                f"the configuration of ingestion has the unknown key {unknown[0]!r:.80}; its keys are {', '.join(map(repr, _KEYS))}"
            )
        return cls(_cut_from_json(value["chunking"]) if "chunking" in value else ParagraphsConfig())

    def chunker(self, embedder: Embedder) -> Chunker | None:
        """What cuts texts; None for paragraphs, which no model counts."""
        return None if isinstance(self.chunking, ParagraphsConfig) else make_chunker(self.chunking, embedder)


def _cut_from_json(value: object) -> CutConfig:
    if isinstance(value, Mapping) and value.get("kind") == "paragraphs":
        unknown = [key for key in value if key not in ("kind", "max_characters")]
        if unknown:
            raise InvalidArgument(
                f"the chunking configuration of kind 'paragraphs' has the unknown key {unknown[0]!r:.80}; its key is 'max_characters'"
            )
        return ParagraphsConfig(**{key: part for key, part in value.items() if key != "kind"})
    return chunking_from_json(value)
