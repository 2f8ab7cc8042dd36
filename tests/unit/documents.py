"""Small documents of each format, made by hand: no program that writes them is needed, and every byte is known."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

OFFICE = "application/vnd.openxmlformats-officedocument."
CORE = (
    '<cp:coreProperties xmlns:cp="c" xmlns:dc="d" xmlns:dcterms="t"><dc:title>A title</dc:title><dc:creator>Ada</dc:creator>'
    "<dc:language>en-GB</dc:language><cp:keywords>one, two;three</cp:keywords>"
    "<dcterms:created>2026-01-31T12:00:00Z</dcterms:created></cp:coreProperties>"
)


def archive(entries: Mapping[str, str | bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive of these entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return out.getvalue()


def open_xml(main: str, kind: str, entries: Mapping[str, str | bytes]) -> bytes:
    """A document of Office Open XML, with its content types and properties."""
    types = f'<Types><Override PartName="/{main}" ContentType="{OFFICE}{kind}.main+xml"/></Types>'
    return archive({"[Content_Types].xml": types, "docProps/core.xml": CORE, **entries})


def docx(body: str, **more: str) -> bytes:
    """A Word document with this inside its body; ``more`` are other parts in ``word/``, by name without suffix."""
    parts = {f"word/{name}.xml": content for name, content in more.items()}
    document = f'<w:document xmlns:w="w"><w:body>{body}</w:body></w:document>'
    return open_xml("word/document.xml", "wordprocessingml.document", {"word/document.xml": document, **parts})


def relationships(**targets: tuple[str, str]) -> str:
    """Relationships by id: their kind and target."""
    each = "".join(f'<Relationship Id="{i}" Type="x/{kind}" Target="{t}"/>' for i, (kind, t) in targets.items())
    return f"<Relationships>{each}</Relationships>"


def pptx(*slides: str) -> bytes:
    """A presentation, whose slides are stored in the opposite order of the show; the first has notes."""
    ids = "".join(f'<p:sldId id="{n}" r:id="r{n}"/>' for n in range(len(slides)))
    entries = {
        "ppt/presentation.xml": f'<p:presentation xmlns:p="p" xmlns:r="r"><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>',
        "ppt/_rels/presentation.xml.rels": relationships(
            **{f"r{n}": ("slide", f"slides/slide{9 - n}.xml") for n in range(len(slides))}
        ),
        "ppt/slides/_rels/slide9.xml.rels": relationships(n=("notesSlide", "../notesSlides/notes1.xml")),
        "ppt/notesSlides/notes1.xml": '<p:notes xmlns:p="p" xmlns:a="a"><a:p><a:r><a:t>Say hello.</a:t></a:r></a:p></p:notes>',
    }
    for n, text in enumerate(slides):
        slide = f'<p:sld xmlns:p="p" xmlns:a="a"><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sld>'
        entries[f"ppt/slides/slide{9 - n}.xml"] = slide
    return open_xml("ppt/presentation.xml", "presentationml.presentation", entries)


def xlsx(rows: str, *, strings: str = "", before: str | None = None) -> bytes:
    """A workbook of one sheet, ``Prices``; the cell style 1 is a date, 2 a number with the word day. ``before`` is a sheet that comes first."""
    first = "" if before is None else '<sheet name="First" r:id="d"/>'
    return open_xml(
        "xl/workbook.xml",
        "spreadsheetml.sheet",
        {
            "xl/workbook.xml": f'<workbook xmlns:r="r"><sheets>{first}<sheet name="Prices" r:id="a"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relationships(
                a=("worksheet", "/xl/worksheets/one.xml"),
                b=("sharedStrings", "strings.xml"),
                c=("styles", "styles.xml"),
                d=("worksheet", "/xl/worksheets/first.xml"),
            ),
            "xl/worksheets/first.xml": f"<worksheet><sheetData>{before or ''}</sheetData></worksheet>",
            "xl/strings.xml": f"<sst>{strings}</sst>",
            "xl/styles.xml": (
                '<styleSheet><numFmts><numFmt numFmtId="170" formatCode="0 &quot;day&quot;"/></numFmts>'
                '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="170"/></cellXfs></styleSheet>'
            ),
            "xl/worksheets/one.xml": f"<worksheet><sheetData>{rows}</sheetData></worksheet>",
        },
    )


def odt(body: str, **entries: str) -> bytes:
    """An OpenDocument text with this inside its body; ``entries`` by name without ``.xml``."""
    content = (
        f'<o:document-content xmlns:o="o" xmlns:text="t" xmlns:table="b"><o:body>{body}</o:body></o:document-content>'
    )
    parts = {f"{name.replace('__', '/')}.xml": value for name, value in entries.items()}
    return archive({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content, **parts})


def epub(**chapters: str) -> bytes:
    """A book with these chapters in ``text/``, by name, in this order."""
    items = "".join(f'<item id="{n}" href="text/{n}.xhtml" media-type="application/xhtml+xml"/>' for n in chapters)
    spine = "".join(f'<itemref idref="{n}"/>' for n in chapters)
    package = (
        '<package xmlns:dc="d"><metadata><dc:title>A book</dc:title><dc:creator>Ada</dc:creator><dc:language>de</dc:language>'
        f"<dc:date>1843</dc:date><dc:subject>engines</dc:subject></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    texts = {f"OEBPS/text/{n}.xhtml": f"<html><body>{text}</body></html>" for n, text in reversed(chapters.items())}
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": package,
            **texts,
        }
    )


def pdf(*pages: str, info: str = "", encrypt: str = "") -> bytes:
    """A PDF with a line of text on each page."""
    objects = ["<</Type/Catalog/Pages 2 0 R>>", "", "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>", f"<<{info}>>"]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET"
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents {len(objects)} 0 R>>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(kids)}]>>"
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    start = len(out)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    out += f"xref\n0 {size}\n0000000000 65535 f \n{table}".encode()
    out += f"trailer\n<</Size {size}/Root 1 0 R/Info 4 0 R{encrypt}>>\nstartxref\n{start}\n%%EOF\n".encode("latin-1")
    return bytes(out)


def ole(streams: Mapping[str, bytes]) -> bytes:
    """A file of streams (OLE2), by name, with sectors of 512 bytes."""
    contents = {name: data.ljust(4_096, b"\0") for name, data in streams.items()}  # no mini streams
    sectors = bytearray()
    chain: list[int] = []
    entries = [_entry("Root Entry", 5, child=1 if contents else -1, start=-2, size=0)]
    for number, (name, data) in enumerate(contents.items(), start=1):
        start, count = len(chain), -(-len(data) // 512)
        chain += [*range(start + 1, start + count), -2]
        sectors += data.ljust(count * 512, b"\0")
        sibling = number + 1 if number < len(contents) else -1
        entries.append(_entry(name, 2, sibling=sibling, start=start, size=len(data)))
    directory = b"".join(entries)
    start, count = len(chain), -(-len(directory) // 512)
    chain += [*range(start + 1, start + count), -2]
    sectors += directory.ljust(count * 512, b"\0")
    tables = 1
    while len(chain) + tables > tables * 128:
        tables += 1
    table = len(chain)
    chain += [-3] * tables
    sectors += struct.pack(f"<{tables * 128}i", *chain, *[-1] * (tables * 128 - len(chain)))
    head = struct.pack("<8s16xHHHHH6xIIiIIiIiI", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6, 0, tables, start, 0, 4_096, -2, 0, -2, 0)  # fmt: skip
    head += struct.pack("<109i", *range(table, table + tables), *[-1] * (109 - tables))
    return head + bytes(sectors)


def _entry(name: str, kind: int, *, sibling: int = -1, child: int = -1, start: int, size: int) -> bytes:
    encoded = name.encode("utf-16-le")
    return struct.pack("<64sHBBiii36xiII", encoded, len(encoded) + 2, kind, 1, -1, sibling, child, start, size, 0)


def xls(rows: Sequence[Sequence[str | float]], *, name: str = "Prices", protected: bool = False) -> bytes:
    """A workbook of 1997 (BIFF8) with one sheet; a number of 40,000 or more is shown as a date."""

    def record(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    begin = record(0x809, struct.pack("<HHHHII", 0x600, 5, 0x0DBB, 0x07CC, 0, 6))
    formats = b"".join(record(0xE0, struct.pack("<HHH14x", 0, form, 0)) for form in (0, 14))
    lock = record(0x2F, b"\1\0" + bytes(52)) if protected else b""
    title = name.encode("latin-1")
    sheet = record(0x809, struct.pack("<HHHHII", 0x600, 0x10, 0x0DBB, 0x07CC, 0, 6))
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            if isinstance(value, str):
                text = value.encode("latin-1")
                sheet += record(0x204, struct.pack("<HHHHB", y, x, 0, len(text), 0) + text)
            else:
                sheet += record(0x203, struct.pack("<HHHd", y, x, int(value >= 40_000), value))
    sheet += record(0x0A, b"")
    tail = struct.pack("<BBBB", 0, 0, len(title), 0) + title
    start = len(begin + lock + formats) + 4 + 4 + len(tail) + 4
    book = begin + lock + formats + record(0x85, struct.pack("<I", start) + tail) + record(0x0A, b"")
    return ole({"Workbook": book + sheet})


def drawn(*lines: str, size: int = 40, paper: str = "white", ink: str = "black") -> Image.Image:
    """Lines of text, drawn in pixels, in letters of this size."""
    font = ImageFont.load_default(size)
    width = max(round(font.getlength(line)) for line in lines) + 4 * size
    picture = Image.new("RGB", (width, round(1.6 * size * len(lines)) + 2 * size), paper)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((2 * size, size + 1.6 * size * number), line, font=font, fill=ink)
    return picture


def saved(*pictures: Image.Image, form: str = "PNG") -> bytes:
    """Pictures as a file of this form: PNG, JPEG, or, with a page for each, TIFF or PDF."""
    out = io.BytesIO()
    if len(pictures) == 1:
        pictures[0].save(out, form)
    else:
        pictures[0].save(out, form, save_all=True, append_images=pictures[1:])
    return out.getvalue()


def picture(*texts: str, form: str = "PNG") -> bytes:
    """A picture of a line of text, or of one on each page."""
    return saved(*(drawn(text) for text in texts), form=form)
