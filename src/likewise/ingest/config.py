"""How files become records, as a value that is stored with the collection: for each stage a closed union told apart by ``kind``.

What is chosen once is kept: later ingestions into the collection, whoever runs them, read and cut in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
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

__all__ = ["CutConfig", "IngestConfig", "PagesConfig", "ParagraphsConfig", "ParsingConfig", "TextConfig"]


@dataclass(frozen=True, slots=True)
class ParagraphsConfig:
    """``{"kind": "paragraphs", "max_characters": 1000}``: at the ends of paragraphs; no model is asked. What is done where nothing was chosen."""

    kind: ClassVar[Literal["paragraphs"]] = "paragraphs"
    max_characters: int = MAX_CHARACTERS

    def __post_init__(self) -> None:
        check_number("max_characters", self.max_characters, least=1)


#: Every way to cut, told apart by ``kind``.
CutConfig: TypeAlias = ParagraphsConfig | TokensConfig | SentencesConfig | HeadingsConfig | SemanticConfig


@dataclass(frozen=True, slots=True)
class TextConfig:
    """``{"kind": "text", "ocr": false}``: the text of documents, and pictures as pictures. With ``ocr`` also the text in pictures and scans."""

    kind: ClassVar[Literal["text"]] = "text"
    ocr: bool = False

    def __post_init__(self) -> None:
        _check_switch("ocr", self.ocr)


@dataclass(frozen=True, slots=True)
class PagesConfig:
    """``{"kind": "pages", "ocr": false, "dpi": 100}``: the same, and each page of a PDF as a picture, for models that embed pictures."""

    kind: ClassVar[Literal["pages"]] = "pages"
    ocr: bool = False
    dpi: int = 100

    def __post_init__(self) -> None:
        _check_switch("ocr", self.ocr)
        check_number("dpi", self.dpi, least=20, most=600)


#: Every way to read a file, told apart by ``kind``.
ParsingConfig: TypeAlias = TextConfig | PagesConfig

_PARSING: Mapping[str, type[ParsingConfig]] = {"text": TextConfig, "pages": PagesConfig}
_KEYS = ("chunking", "parsing")


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """How files are read and cut for a collection. ``to_json`` and ``from_json`` are how it is stored."""

    chunking: CutConfig = field(default_factory=ParagraphsConfig)
    parsing: ParsingConfig = field(default_factory=TextConfig)

    def to_json(self) -> dict[str, Any]:
        """The configuration as an object of JSON; ``from_json`` makes it again."""
        cut = self.chunking
        if isinstance(cut, ParagraphsConfig):
            chunking: dict[str, Any] = {"kind": cut.kind, "max_characters": cut.max_characters}
        else:
            chunking = chunking_to_json(cut)
        return {"chunking": chunking, "parsing": {"kind": self.parsing.kind, **asdict(self.parsing)}}

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
        return cls(
            _cut_from_json(value["chunking"]) if "chunking" in value else ParagraphsConfig(),
            _parsing_from_json(value["parsing"]) if "parsing" in value else TextConfig(),
        )

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


def _parsing_from_json(value: object) -> ParsingConfig:
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(kind, str) or kind not in _PARSING:
        raise InvalidArgument(
            f"the parsing configuration is {value!r:.80}; it is an object with a 'kind', one of {', '.join(map(repr, _PARSING))}"
        )
    made = _PARSING[kind]
    names = [each.name for each in fields(made)]
    unknown = [key for key in value if key != "kind" and key not in names]
    if unknown:
        raise InvalidArgument(
            f"the parsing configuration of kind {kind!r} has the unknown key {unknown[0]!r:.80}; its keys are {', '.join(map(repr, names))}"
        )
    return made(**{key: part for key, part in value.items() if key != "kind"})


def _check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name} is {value!r:.80}; it must be true or false")
