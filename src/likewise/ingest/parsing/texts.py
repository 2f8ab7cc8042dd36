"""Plain text in any encoding, and what is written in plain text: CSV, JSON and JSON Lines."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import sys
from collections.abc import Iterator

from likewise.errors import OptionalDependencyError
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer

__all__ = ["decode", "parse_csv", "parse_json", "parse_text", "sniff_csv", "sniff_json"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Control characters that no text has; form feed and escape (ISO-2022-JP) are among those that it may have.
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffe\uffff\ue000-\uf8ff]")
_STATED = re.compile(rb"""(?:charset\s*=|encoding\s*=)\s*["']?\s*([A-Za-z0-9._:-]{2,40})""")
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
#: What the detector looks at, in bytes: enough to tell, and bounded.
_DETECTED = 256 * 1024
#: Fewer bytes beyond ASCII than this are a few accents, and tell nothing of the encoding.
_FEW = 8
_NOT_TEXT = "neither a picture nor a document nor text, in UTF-8 or another encoding that can be told"


def decode(data: bytes, *, markup: bool = False) -> tuple[str, str]:
    """The text of these bytes and the name of its encoding; ``Unreadable`` (while detecting) if it is not text.

    In this order: a byte order mark; with ``markup``, what the document states; UTF-8; UTF-16 and UTF-32 without a mark, where there are
    zero bytes; Windows-1252 where fewer than eight bytes are beyond ASCII, among many that are not; and, by ``charset-normalizer`` of
    the extra ``ingest``, the 8-bit and multi-byte encodings of old.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _plain(data, encoding), encoding.removesuffix("-sig")
    if markup and (stated := _STATED.search(data[:1024])):
        try:
            encoding = codecs.lookup(stated[1].decode("ascii")).name
            # What says so in ASCII is not in these, whatever it says.
            if not encoding.startswith(("utf-16", "utf-32")):
                return data.decode(encoding), encoding
        except (LookupError, UnicodeError, TypeError, ValueError):
            pass
    if b"\x00" in data:
        return _wide(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _legacy(data)
    if _CONTROLS.search(data) and len(_CONTROLS.findall(data)) > len(data) // 100:
        raise Unreadable(_NOT_TEXT, stage="detecting")
    return text, "utf-8"


def _plain(data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(f"it begins as {encoding} text, but is not: {error.reason}", stage="detecting") from error
    if "\x00" in text:
        raise Unreadable(_NOT_TEXT, stage="detecting")
    return text.removeprefix("\ufeff")


def _wide(data: bytes) -> tuple[str, str]:
    """UTF-32 and UTF-16 without a mark: the one in which there is most of what texts are full of."""
    found: list[tuple[float, str, str]] = []
    for encoding in _WIDE:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text and not _CONTROL_CHARACTERS.search(text):
            common = sum(1 for c in text[:_DETECTED] if c.isspace() or c.isalnum())
            plain = sum(1 for c in text[:_DETECTED] if c == " " or c == "\n" or c.isascii())
            found.append(((common + plain) / min(len(text), _DETECTED), text, encoding))
    best = max(found, default=None)
    # Half letters or better, and a space or line end somewhere: random bytes have neither.
    if best is None or best[0] < 0.6:
        raise Unreadable(_NOT_TEXT, stage="detecting")
    return best[1], best[2]


def _legacy(data: bytes) -> tuple[str, str]:
    if _CONTROLS.search(data):
        raise Unreadable(_NOT_TEXT, stage="detecting")
    foreign = sum(byte >= 0x80 for byte in data[:_DETECTED])
    if foreign < _FEW and foreign * 3 < len(data):
        # Too few to tell by: what most such files are, and what browsers take them for.
        try:
            return data.decode("cp1252"), "cp1252"
        except UnicodeDecodeError:
            pass
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise OptionalDependencyError("charset-normalizer", extra="ingest") from error
    match = from_bytes(
        data[:_DETECTED], cp_exclusion=["utf_8", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_7"]
    ).best()
    if match is None:
        raise Unreadable(_NOT_TEXT, stage="detecting")
    try:
        return data.decode(match.encoding), codecs.lookup(match.encoding).name
    except UnicodeDecodeError as error:
        raise Unreadable(_NOT_TEXT, stage="detecting") from error


def parse_text(text: str, limits: Limits) -> Parsed:
    """Plain text, as it is."""
    Writer(limits).write(text)
    return Parsed(text=text, media_type="text/plain")


def sniff_csv(text: str) -> str | None:
    """The delimiter of a table of three rows or more, all of one width, or None: most texts have commas and are no table."""
    head = text[:20_000]
    if len(head) < len(text):
        head = head.rpartition("\n")[0]
    for delimiter, columns in (("\t", 2), (";", 2), (",", 3), ("|", 3)):
        try:
            rows = [row for row in csv.reader(io.StringIO(head), delimiter=delimiter, strict=True) if row][:100]
        except csv.Error:
            continue
        if len(rows) >= 3 and len(rows[0]) >= columns and len({len(row) for row in rows}) == 1 and all(rows[0]):
            return delimiter
    return None


def parse_csv(text: str, delimiter: str, limits: Limits) -> Parsed:
    """A table with a row of names: each row as a paragraph of ``name: value``, so that a chunk is understood without its neighbours."""
    out = Writer(limits)
    csv.field_size_limit(min(limits.characters, sys.maxsize, 2**31 - 1))
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        names = [name.strip() for name in next(rows, [])]
        for row in rows:
            pairs = zip([*names, *[""] * (len(row) - len(names))], row, strict=False)
            line = "; ".join(
                f"{name}: {cell.strip()}" if name else cell.strip() for name, cell in pairs if cell.strip()
            )
            if line:
                out.write(line + "\n\n")
    except csv.Error as error:
        raise Unreadable(f"its table cannot be understood ({error})", stage="parsing") from error
    return Parsed(text=out.text().strip() or text, media_type="text/csv")


def sniff_json(text: str) -> str | None:
    """``application/json`` or ``application/jsonl`` where the whole text is that, or None."""
    head = text.lstrip()[:1]
    if head not in ("{", "["):
        return None
    try:
        json.loads(text)
        return "application/json"
    except RecursionError as error:
        raise Unreadable("its JSON is nested too deep", stage="parsing") from error
    except ValueError:
        pass
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        whole = len(lines) > 1 and all(isinstance(json.loads(line), dict | list) for line in lines)
    except (ValueError, RecursionError):
        return None
    return "application/jsonl" if whole else None


def parse_json(text: str, media_type: str, limits: Limits) -> Parsed:
    """The values of a JSON text, each on a line behind its path; in a list or in JSON Lines, a blank line parts the items."""
    values = (
        [json.loads(text)]
        if media_type == "application/json"
        else [json.loads(x) for x in text.splitlines() if x.strip()]
    )
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    out = Writer(limits)
    for value in values:
        lines = list(_leaves(value, "", limits.depth))
        if lines:
            out.write("\n".join(lines) + "\n\n")
    title = values[0].get("title") if len(values) == 1 and isinstance(values[0], dict) else None
    return Parsed(text=out.text().strip(), media_type=media_type, title=title if isinstance(title, str) else None)


def _leaves(value: object, path: str, depth: int) -> Iterator[str]:
    if depth < 0:
        raise Unreadable("its JSON is nested too deep", stage="parsing")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key), depth - 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path, depth - 1)
    elif value is not None and value != "":
        shown = value if isinstance(value, str) else json.dumps(value)
        yield f"{path}: {shown}" if path else shown
