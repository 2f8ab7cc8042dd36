"""Workbooks (XLSX): a page for each sheet, a line for each row, cells parted by tabs; dates as ISO 8601."""

from __future__ import annotations

import datetime
import re

from likewise.ingest.parsing.archives import Archive, Element, read_xml
from likewise.ingest.parsing.openxml import MAIN_PARTS, main_part, properties, relationships
from likewise.ingest.parsing.parsed import Limits, Parsed, Writer

__all__ = ["EPOCH", "EPOCH_1904", "date_text", "parse_xlsx"]

#: The numbers of the built-in formats that show a date or a time.
_BUILT_IN_DATES = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
_NOT_A_CODE = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.')
#: What the day 0 is, in workbooks of Windows and of old Macs.
EPOCH, EPOCH_1904 = datetime.datetime(1899, 12, 30), datetime.datetime(1904, 1, 1)


def _strings(archive: Archive, limits: Limits, name: str) -> list[str]:
    """The texts that cells refer to by number, without the readings of East Asian ones."""
    found: list[str] = []
    parts: list[str] = []
    inside = phonetic = False
    total = Writer(limits)

    def start(element: Element) -> None:
        nonlocal inside, phonetic
        inside = inside or element.name == "t"
        phonetic = phonetic or element.name == "rPh"

    def end(name: str) -> None:
        nonlocal inside, phonetic
        if name == "t":
            inside = False
        elif name == "rPh":
            phonetic = False
        elif name == "si":
            found.append("".join(parts))
            parts.clear()

    def text(text: str) -> None:
        if inside and not phonetic:
            total.write(text)
            parts.append(text)

    read_xml(archive.read(name), limits, start=start, end=end, text=text)
    return found


def _date_styles(archive: Archive, limits: Limits, name: str) -> set[int]:
    """The numbers of the cell styles that show a date."""
    custom: set[int] = set()
    dates: set[int] = set()
    state = {"inside": 0, "count": 0}

    def start(element: Element) -> None:
        if element.name == "numFmt":
            code = _NOT_A_CODE.sub("", element.get("formatCode")[:255]).lower()
            if re.search(r"[dy]|h|m", code) and "general" not in code:
                custom.add(_number(element.get("numFmtId")))
        elif element.name == "cellXfs":
            state["inside"] = 1
        elif element.name == "xf" and state["inside"]:
            number = _number(element.get("numFmtId"))
            if number in _BUILT_IN_DATES or number in custom:
                dates.add(state["count"])
            state["count"] += 1

    def end(name: str) -> None:
        if name == "cellXfs":
            state["inside"] = 0

    read_xml(archive.read(name), limits, start=start, end=end, text=lambda _: None)
    return dates


def _number(text: str) -> int:
    """A whole number as XML has it, or -1."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def date_text(text: str, epoch: datetime.datetime) -> str:
    """A day's number as a date, a fraction of a day as a time; what is neither stays as it is."""
    try:
        moment = epoch + datetime.timedelta(seconds=round(float(text) * 86_400))
    except (ValueError, OverflowError):
        return text
    if moment.date() == epoch.date():
        return moment.time().isoformat()
    return moment.date().isoformat() if moment.time() == datetime.time() else moment.isoformat(sep=" ")


class _Sheet:
    """The rows of one sheet as text."""

    def __init__(self, out: Writer, strings: list[str], dates: set[int], epoch: datetime.datetime) -> None:
        self._out = out
        self._strings = strings
        self._dates = dates
        self._epoch = epoch
        self._type = ""
        self._style = -1
        self._inside = False
        self._value: list[str] = []
        self._row: list[str] = []

    def start(self, element: Element) -> None:
        if element.name == "c":
            self._type, self._style = element.get("t", "n"), _number(element.get("s"))
            self._value.clear()
        elif element.name in ("v", "t"):
            self._inside = True

    def text(self, text: str) -> None:
        if self._inside:
            self._value.append(text)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._inside = False
        elif name == "c":
            self._row.append(self._cell("".join(self._value).strip()))
        elif name == "row":
            if line := "\t".join(cell for cell in self._row if cell):
                self._out.write(line + "\n")
            self._row.clear()

    def _cell(self, value: str) -> str:
        if self._type == "s":
            number = _number(value)
            return self._strings[number].strip() if 0 <= number < len(self._strings) else ""
        if self._type == "b":
            return {"1": "true", "0": "false"}.get(value, value)
        return date_text(value, self._epoch) if self._type == "n" and value and self._style in self._dates else value


def parse_xlsx(archive: Archive, limits: Limits) -> Parsed:
    """A workbook. Values are those that were last computed; formulas are not shown."""
    main = main_part(archive, limits, "xlsx")
    sheets: list[tuple[str, str]] = []
    epoch = EPOCH

    def start(element: Element) -> None:
        nonlocal epoch
        if element.name == "sheet":
            sheets.append((element.get("name"), element.get("r:id")))
        elif element.name == "workbookPr" and element.get("date1904") in ("1", "true"):
            epoch = EPOCH_1904

    read_xml(archive.read(main), limits, start=start, end=lambda _: None, text=lambda _: None)
    parts = relationships(archive, limits, main)
    strings: list[str] = []
    dates: set[int] = set()
    for kind, entry in parts.values():
        if kind == "sharedStrings":
            strings = _strings(archive, limits, entry)
        elif kind == "styles":
            dates = _date_styles(archive, limits, entry)
    out = Writer(limits)
    for name, reference in sheets:
        kind, entry = parts.get(reference, ("", ""))
        rows = Writer(limits)
        if kind == "worksheet":
            sheet = _Sheet(rows, strings, dates, epoch)
            read_xml(archive.read(entry), limits, start=sheet.start, end=sheet.end, text=sheet.text)
        # An empty sheet, or a chart, is a page too, so that those after it have their numbers.
        out.page(f"{name}\n{rows.text()}" if rows.length else "")
    parsed = Parsed(text=out.text(), pages=tuple(out.pages), media_type=MAIN_PARTS["xlsx"][0])
    return properties(archive, limits, parsed)
