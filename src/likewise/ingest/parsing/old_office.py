"""Documents of Microsoft Office before 2007: workbooks (XLS) by xlrd (the extra ``ingest``); of others, what they are and what to do."""

from __future__ import annotations

import io
import struct
from typing import Any

from likewise.errors import OptionalDependencyError
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer
from likewise.ingest.parsing.sheets import EPOCH, EPOCH_1904, date_text

__all__ = ["is_old_office", "parse_old_office"]

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: What a file of streams is, by the name of one of them, and what to do about it.
_CURES = {
    "EncryptedPackage": ("the file is encrypted: save it without a password", "unpacking"),
    "WordDocument": ("a Word document of before 2007 (DOC), which is not read: save it as DOCX", "detecting"),
    "PowerPoint Document": ("a presentation of before 2007 (PPT), which is not read: save it as PPTX", "detecting"),
    "__properties_version1.0": ("a message of Outlook (MSG), which is not read: save it as EML", "detecting"),
}
_UNKNOWN = "a document of Microsoft Office before 2007, or of its kind: save it as DOCX, XLSX or PPTX"
#: What xlrd raises at what it does not expect, beside its own.
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, EOFError, struct.error)


def is_old_office(data: bytes) -> bool:
    """Whether the bytes are a file of streams (OLE2), as Office wrote until 2007."""
    return data.startswith(_OLE)


def parse_old_office(data: bytes, limits: Limits) -> Parsed:
    """A workbook; ``Unreadable``, with the name of the format and the cure, for everything else."""
    lowered = data.lower()  # names may be written in letters of either case
    others = [cure for name, cure in _CURES.items() if _has_stream(lowered, name)]
    if _has_stream(lowered, "Workbook") or _has_stream(lowered, "Book"):
        try:
            return _parse_xls(data, limits)
        except _NoWorkbook:  # one that a document of another kind holds
            pass
        except OptionalDependencyError:
            if not others:
                raise
    reason, stage = others[0] if others else (_UNKNOWN, "detecting")
    raise Unreadable(reason, stage=stage)


def _has_stream(lowered: bytes, name: str) -> bool:
    """Whether the file's directory has an entry of this name (MS-CFB, 2.6.1), at whatever depth; the bytes are in small letters."""
    encoded = name.lower().encode("utf-16-le")
    return encoded.ljust(64, b"\0") + struct.pack("<H", len(encoded) + 2) in lowered


class _NoWorkbook(Exception):
    """The file holds no workbook at its root."""


def _parse_xls(data: bytes, limits: Limits) -> Parsed:
    """A page for each sheet, a line for each row, cells parted by tabs, as of XLSX."""
    try:
        import xlrd
        from xlrd.biffh import XLRDError
        from xlrd.compdoc import CompDocError
    except ImportError as error:
        raise OptionalDependencyError("xlrd", extra="ingest") from error
    out = Writer(limits)
    try:
        with xlrd.open_workbook(file_contents=data, logfile=io.StringIO(), on_demand=True, ragged_rows=True) as book:
            if book.nsheets > limits.pages:
                raise Unreadable(f"it has {book.nsheets:,} sheets, at most {limits.pages:,} are read", stage="parsing")
            for number in range(book.nsheets):
                rows = Writer(limits)
                sheet = book.sheet_by_index(number)
                for row in sheet.get_rows():
                    cells = (_cell(cell.ctype, cell.value, book.datemode) for cell in row)
                    if line := "\t".join(cell for cell in cells if cell):
                        rows.write(line + "\n")
                out.page(f"{sheet.name}\n{rows.text()}" if rows.length else "")
                book.unload_sheet(number)
    except (XLRDError, CompDocError) as error:
        said = str(error)
        if "Can't find workbook" in said:
            raise _NoWorkbook from error
        if "encrypted" in said:
            raise Unreadable("the workbook is encrypted: save it without a password", stage="unpacking") from error
        raise Unreadable(f"the workbook is damaged ({said[:200]})", stage="parsing") from error
    except _BROKEN as error:
        raise Unreadable(
            f"the workbook is damaged ({type(error).__name__}: {str(error)[:200]})", stage="parsing"
        ) from error
    return Parsed(text=out.text(), pages=tuple(out.pages), media_type="application/vnd.ms-excel")


def _cell(kind: int, value: Any, datemode: int) -> str:
    """A cell as XLSX has it: whole numbers without a point, dates as ISO 8601, nothing for errors."""
    from xlrd import biffh

    match kind:
        case biffh.XL_CELL_TEXT:
            return " ".join(str(value).split())
        case biffh.XL_CELL_NUMBER:
            return str(int(value)) if float(value).is_integer() else repr(value)
        case biffh.XL_CELL_BOOLEAN:
            return "true" if value else "false"
        case biffh.XL_CELL_DATE:
            return date_text(repr(value), EPOCH_1904 if datemode else EPOCH)
        case _:
            return ""
