"""How a text is to be cut, as a value that can be stored: a closed union told apart by ``kind``, to JSON and back.

What a configuration does not hold is the model: it is the collection's, and counts and embeds for the chunker that is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias, assert_never, get_args

from likewise.abc.embedder import Embedder
from likewise.errors import InvalidArgument
from likewise.ingest.chunking.chunk import Chunker, check_number
from likewise.ingest.chunking.headings import HeadingChunker
from likewise.ingest.chunking.semantic import SemanticChunker
from likewise.ingest.chunking.sentences import SentenceChunker
from likewise.ingest.chunking.tokens import TokenChunker, check_overlap

__all__ = [
    "ChunkingConfig",
    "HeadingsConfig",
    "SemanticConfig",
    "SentencesConfig",
    "TokensConfig",
    "from_json",
    "make_chunker",
    "to_json",
]


@dataclass(frozen=True, slots=True)
class TokensConfig:
    """``{"kind": "tokens", "size": 200, "overlap": 20}``: see ``TokenChunker``. Sizes are in tokens."""

    kind: ClassVar[Literal["tokens"]] = "tokens"
    size: int
    overlap: int = 0

    def __post_init__(self) -> None:
        check_number("size", self.size, least=1)
        check_overlap(self.overlap, self.size)


@dataclass(frozen=True, slots=True)
class SentencesConfig:
    """``{"kind": "sentences", "size": 200, "overlap_sentences": 1}``: see ``SentenceChunker``. The size is in tokens."""

    kind: ClassVar[Literal["sentences"]] = "sentences"
    size: int
    overlap_sentences: int = 0

    def __post_init__(self) -> None:
        check_number("size", self.size, least=1)
        check_number("overlap_sentences", self.overlap_sentences, least=0, most=100)


@dataclass(frozen=True, slots=True)
class HeadingsConfig:
    """``{"kind": "headings", "size": 200, "prefix": true}``: see ``HeadingChunker``. The size is in tokens."""

    kind: ClassVar[Literal["headings"]] = "headings"
    size: int
    prefix: bool = False

    def __post_init__(self) -> None:
        check_number("size", self.size, least=1)
        if not isinstance(self.prefix, bool):
            raise InvalidArgument(f"prefix is {self.prefix!r}; it must be true or false")


@dataclass(frozen=True, slots=True)
class SemanticConfig:
    """``{"kind": "semantic", "size": 200, "percentile": 95.0, "window": 1}``: see ``SemanticChunker``. The size is in tokens."""

    kind: ClassVar[Literal["semantic"]] = "semantic"
    size: int
    percentile: float = 95.0
    window: int = 1

    def __post_init__(self) -> None:
        check_number("size", self.size, least=1)
        check_number("percentile", self.percentile, least=0, most=100, whole=False)
        check_number("window", self.window, least=1, most=100)


#: Every way to cut, told apart by ``kind``.
ChunkingConfig: TypeAlias = TokensConfig | SentencesConfig | HeadingsConfig | SemanticConfig

_KINDS: Mapping[str, type[ChunkingConfig]] = {kind.kind: kind for kind in get_args(ChunkingConfig)}


def to_json(config: ChunkingConfig) -> dict[str, Any]:
    """The configuration as an object of JSON, ``kind`` first; ``from_json`` makes it again."""
    return {"kind": config.kind, **asdict(config)}


def from_json(value: object) -> ChunkingConfig:
    """The configuration that an object of JSON says.

    ``InvalidArgument`` names what is wrong: no object, no ``kind`` or one that is not known, a key too many or too few, a value that cannot be.
    """
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"a chunking configuration is an object with a 'kind', not {value!r}")
    kind = value.get("kind")
    known = ", ".join(map(repr, _KINDS))
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InvalidArgument(f"the chunking configuration's 'kind' is {kind!r}; it is one of {known}")
    made = _KINDS[kind]
    names = [field.name for field in fields(made)]
    unknown = [key for key in value if key != "kind" and key not in names]
    if unknown:
        raise InvalidArgument(
            f"the chunking configuration of kind {kind!r} has the unknown key {unknown[0]!r}; its keys are {', '.join(map(repr, names))}"
        )
    if "size" not in value:
        raise InvalidArgument(f"the chunking configuration of kind {kind!r} lacks 'size', the most tokens of a chunk")
    return made(**{key: part for key, part in value.items() if key != "kind"})


def make_chunker(config: ChunkingConfig, embedder: Embedder) -> Chunker:
    """The chunker of a configuration: it counts as ``embedder`` does, and embeds with it if it has to.

    A size is then what the model reads, special tokens and its prompt for passages included. ``InvalidArgument`` if the model would cut or
    refuse a chunk of this size. Nothing is loaded before the first text is cut.
    """
    card = embedder.card
    if card.max_tokens is not None and config.size > card.max_tokens and card.overlong != "pooled":
        raise InvalidArgument(
            f"size is {config.size:,}, and {card.name} reads {card.max_tokens:,} tokens of a text: make size {card.max_tokens:,} at most"
        )

    def count(text: str) -> int:
        return embedder.count_tokens([card.passage_prompt + text])[0]

    match config:
        case TokensConfig():
            return TokenChunker(config.size, config.overlap, count=count)
        case SentencesConfig():
            return SentenceChunker(config.size, config.overlap_sentences, count=count)
        case HeadingsConfig():
            return HeadingChunker(config.size, prefix=config.prefix, count=count)
        case SemanticConfig():
            return SemanticChunker(
                config.size, embedder=embedder, percentile=config.percentile, window=config.window, count=count
            )
        case _:
            assert_never(config)
