"""Files become documents: read, parsed, cut into chunks. No model but the one that counts tokens, and no collection, enters here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from likewise.abc.document_rows import NewChunk, NewDocument, Trouble
from likewise.abc.validation import MAX_ID_LENGTH
from likewise.errors import InvalidArgument, OptionalDependencyError
from likewise.ingest.chunking import MAX_CHARACTERS, Chunker, chunk_text
from likewise.ingest.config import PagesConfig, ParsingConfig, TextConfig
from likewise.ingest.loading import Document, load
from likewise.ingest.parsing import Parsed, ParserPool, Unreadable
from likewise.ingest.parsing.reading import read_bytes

__all__ = ["Cutter", "Seen", "printable"]

#: Room in an id for "#" and the number of a chunk.
_LONGEST_SOURCE = MAX_ID_LENGTH - 12
#: Characters of a title or name, and the number of keywords, that go into the metadata of each record.
_LONGEST_FACT, _MOST_KEYWORDS = 500, 50
#: Bytes of the pages of one document as pictures.
_MOST_DRAWN = 200 << 20
_NO_DIGEST = bytes(32)
_LIKE_A_CHUNK = re.compile(r"#\d+\Z")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it is now: where it is, the name that it goes by, the SHA-256 of its bytes and their number; or why it cannot be read."""

    path: Path
    source: str
    sha256: bytes = _NO_DIGEST
    size: int = 0
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutter:
    """How files are made into documents: ``metadata`` goes into every record, ``settings`` tell this way from others. Threads may share it."""

    pool: ParserPool
    pictures: bool
    embedder: str | None = None
    base: Path | None = None
    tenant: str = ""
    owner: str = ""
    chunker: Chunker | None = None
    max_characters: int = MAX_CHARACTERS
    parsing: ParsingConfig = field(default_factory=TextConfig)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What a stored document has to have been made with, to be as this would make it."""
        made: dict[str, Any] = {}
        if self.chunker is not None:
            made["chunker"] = self.chunker.settings
        elif self.max_characters != MAX_CHARACTERS:
            made["chunker"] = f'{{"kind": "paragraphs", "max_characters": {self.max_characters}}}'
        if self.parsing != TextConfig():
            made["parsing"] = json.dumps({"kind": self.parsing.kind, **asdict(self.parsing)}, sort_keys=True)
        if self.owner:
            made["owner"] = self.owner
        if self.metadata:
            made["metadata"] = dict(self.metadata)
        return made

    def source(self, path: Path) -> str:
        """The name that a file goes by; a name too long for an id keeps its beginning and a hash of the whole."""
        inside = self.base is not None and path.is_relative_to(self.base)
        name = printable(
            path.relative_to(self.base).as_posix() if inside and self.base is not None else path.as_posix()
        )
        longest = _LONGEST_SOURCE - (len(self.tenant) + 2 if self.tenant else 0)
        if len(name) > longest:
            name = f"{name[: longest - 17]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return name

    def path(self, source: str) -> Path | None:
        """Where the file that goes by this name is, or was; None where the name does not tell it."""
        path = Path(source)
        if not path.is_absolute():
            if self.base is None:
                return None
            path = self.base / source
        return path if self.source(path) == source else None

    def look(self, path: Path) -> Seen:
        """The file's hash; nothing is parsed."""
        source = self.source(path)
        try:
            data = read_bytes(path)
        except Unreadable as error:
            return Seen(path, source, trouble=Trouble(source, error.reason, error.stage, _NO_DIGEST, 0))
        return Seen(path, source, hashlib.sha256(data).digest(), len(data))

    def cut(self, seen: Seen) -> NewDocument | Trouble:
        """The document that the file is now, or why it is none."""
        stage = "parsing"
        try:
            document = load(seen.path, pool=self.pool, textless=self._draws)
            if document.kind == "image" and not self.pictures and not document.text:
                raise Unreadable(self._textless(), stage=stage)
            drawn = self._drawn(document)
            stage = "chunking"
            return self._cut(seen.source, document, drawn)
        except Unreadable as error:
            return Trouble(seen.source, error.reason, error.stage, seen.sha256, seen.size)
        except (OptionalDependencyError, InvalidArgument) as error:
            return Trouble(seen.source, str(error), stage, seen.sha256, seen.size)

    @property
    def _draws(self) -> bool:
        """Whether the pages of a PDF become pictures."""
        return isinstance(self.parsing, PagesConfig) and self.pictures

    def _textless(self) -> str:
        if self.parsing.ocr:
            return f"a picture without text, and {self.embedder!r} embeds text only"
        return f"a picture, and {self.embedder!r} embeds text only: have its text read by ocr, or choose a model for pictures"

    def _drawn(self, document: Document) -> list[NewChunk]:
        """The pages of a PDF as pictures, if they are wanted."""
        if not isinstance(self.parsing, PagesConfig) or not self._draws or document.media_type != "application/pdf":
            if document.kind == "text" and not document.text.strip():
                raise Unreadable("it holds no text, and only the pages of a PDF are drawn", stage="parsing")
            return []
        drawn: list[NewChunk] = []
        size = 0
        for number, picture in self.pool.pages(read_bytes(document.path), path=document.path, dpi=self.parsing.dpi):
            size += len(picture)
            if size > _MOST_DRAWN:
                raise Unreadable(
                    f"its pages as pictures have more than {_MOST_DRAWN >> 20} MiB: lower dpi, or split the document",
                    stage="parsing",
                )
            drawn.append(NewChunk(image=picture, page=number))
        return drawn

    def _cut(self, source: str, document: Document, drawn: Sequence[NewChunk]) -> NewDocument:
        parsed = document.parsed
        settings = self.settings
        metadata: dict[str, Any] = {
            **self.metadata,
            "source": source,
            "path": printable(str(document.path)),
            "sha256": document.digest,
            "media_type": document.media_type,
            "bytes": document.size,
            **_said(parsed),
        }
        chunks = [*self._chunks(document), *drawn]
        picture = len(chunks) == 1 and chunks[0].image is not None
        if picture and document.kind == "image":
            settings = {name: value for name, value in settings.items() if name != "chunker"}
        metadata.update({name: settings[name] for name in ("chunker", "parsing") if name in settings})
        for name, value in (("tenant", self.tenant), ("owner", self.owner)):
            if value:
                metadata[name] = value
        title, language = metadata.get("title"), metadata.get("language")
        return NewDocument(
            source=source,
            sha256=bytes.fromhex(document.digest),
            size=document.size,
            media_type=document.media_type,
            chunks=chunks,
            metadata=metadata,
            settings=settings,
            title=str(title) if title else None,
            language=str(language) if language else None,
            characters=len(document.text),
            # "a.txt#0" is the id of a chunk of a.txt; a picture of that name has a number, too.
            whole=picture and _LIKE_A_CHUNK.search(source) is None,
        )

    def _chunks(self, document: Document) -> list[NewChunk]:
        """The picture itself, where pictures are embedded, and then the text, of a picture that which was read in it."""
        picture = [NewChunk(image=document.data)] if document.kind == "image" and self.pictures else []
        if not document.text:
            return picture
        if self.chunker is None:
            return picture + [
                NewChunk(text=part) for part in chunk_text(document.text, max_characters=self.max_characters)
            ]
        pages = document.parsed.pages if document.parsed is not None else ()
        return picture + [
            NewChunk(
                text=chunk.embedded,
                start=chunk.start,
                end=chunk.end,
                prefix_length=len(chunk.prefix),
                tokens=chunk.tokens,
                page=chunk.page,
                headings=chunk.headings,
            )
            for chunk in self.chunker.chunk(document.text, page_starts=[start for start, _ in pages])
        ]


def printable(path: str | Path) -> str:
    """A name that is not Unicode reaches Python with lone surrogates, which no database stores: its bytes are written out."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _said(parsed: Parsed | None) -> dict[str, str | int | list[str]]:
    """What a document says of itself, without what it does not say."""
    if parsed is None:
        return {}
    facts: dict[str, str | int | list[str] | None] = {
        "title": parsed.title,
        "author": parsed.author,
        "language": parsed.language,
        "language_detected": parsed.language_detected,
        "created": parsed.created,
        "modified": parsed.modified,
        "keywords": list(parsed.keywords),
        "width": parsed.width,
        "height": parsed.height,
    }
    return {name: _short(value) for name, value in facts.items() if value}


def _short(value: str | int | list[str]) -> str | int | list[str]:
    """As metadata keeps it: strange files have titles of a megabyte, and characters that no database stores."""
    match value:
        case str():
            return value[:_LONGEST_FACT].replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
        case list():
            return [str(_short(word)) for word in value[:_MOST_KEYWORDS]]
        case _:
            return value
