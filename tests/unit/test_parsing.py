"""Documents of each format give their text, in order, and what they say of themselves."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from likewise.errors import OptionalDependencyError
from likewise.ingest import Limits, Parsed, Unreadable, parse

from . import documents


def paged(parsed: Parsed) -> list[str]:
    return [parsed.text[start:end] for start, end in parsed.pages]


def test_word() -> None:
    styles = '<w:styles xmlns:w="w"><w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style></w:styles>'
    notes = '<w:footnotes xmlns:w="w"><w:p><w:r><w:t>A note.</w:t></w:r></w:p></w:footnotes>'
    body = (
        '<w:p><w:pPr><w:pStyle w:val="berschrift2"/></w:pPr><w:r><w:t>Head</w:t></w:r></w:p>'
        "<w:p><w:r><w:t>Some</w:t><w:tab/><w:t>text</w:t><w:delText>gone</w:delText><w:instrText>PAGE</w:instrText></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
        "<w:p><w:r><w:t>Out</w:t><w:txbx><w:p><w:r><w:t>boxed</w:t></w:r></w:p></w:txbx><w:t>side</w:t></w:r></w:p>"
    )
    parsed = parse(documents.docx(body, styles=styles, footnotes=notes))
    assert parsed.text == "## Head\n\nSome\ttext\n\na \tb\nboxed\n\nOutside\n\nA note."
    assert parsed.media_type.endswith("wordprocessingml.document")
    assert (parsed.title, parsed.author, parsed.language) == ("A title", "Ada", "en-GB")
    assert (parsed.created, parsed.modified) == ("2026-01-31T12:00:00Z", None)
    assert parsed.keywords == ("one", "two", "three")
    assert parsed.pages == ()


def test_slides_in_the_order_of_the_show() -> None:
    parsed = parse(documents.pptx("First", "Second", "Third"))
    assert paged(parsed) == ["First\n\nSay hello.", "Second", "Third"]


def test_a_workbook() -> None:
    rows = (
        '<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c></row>'
        '<row><c s="1"><v>45292</v></c><c s="1"><v>45292.5</v></c><c s="2"><v>3</v></c></row>'
        '<row><c t="b"><v>1</v></c><c t="inlineStr"><is><t>inline</t></is></c><c t="s"><v>99</v></c></row>'
    )
    parsed = parse(
        documents.xlsx(
            rows, strings="<si><t>When</t><rPh><t>yomi</t></rPh></si><si><r><t>Pri</t></r><r><t>ce</t></r></si>"
        )
    )
    assert parsed.text == "Prices\nWhen\tPrice\n2024-01-01\t2024-01-01 12:00:00\t3\ntrue\tinline"
    assert paged(parsed) == [parsed.text]


def test_a_sheet_after_an_empty_one_keeps_its_number() -> None:
    rows = '<row><c t="inlineStr"><is><t>lamp</t></is></c></row>'
    parsed = parse(documents.xlsx(rows, before=""))
    assert (parsed.text, paged(parsed)) == ("Prices\nlamp", ["", "Prices\nlamp"])
    parsed = parse(documents.xlsx("", before=rows))
    assert (parsed.text, paged(parsed)) == ("First\nlamp", ["First\nlamp", ""])


def test_a_workbook_of_before_2007() -> None:
    parsed = parse(documents.xls([["What", "When", "Price"], ["lamp,\nred", 45_292.0, 3.0], ["chair", 45_292.5, 2.5]]))
    assert parsed.text == "Prices\nWhat\tWhen\tPrice\nlamp, red\t2024-01-01\t3\nchair\t2024-01-01 12:00:00\t2.5"
    assert (parsed.media_type, paged(parsed)) == ("application/vnd.ms-excel", [parsed.text])
    with pytest.raises(Unreadable, match="longer than 5 characters"):
        parse(documents.xls([["many", "words"]]), limits=Limits(characters=5))


def test_open_document() -> None:
    meta = '<m xmlns:dc="d"><dc:title>Odd</dc:title><dc:creator>Ada</dc:creator><meta:keyword xmlns:meta="m">kw</meta:keyword></m>'
    body = (
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        '<text:h text:outline-level="2">Head</text:h><text:p>One<text:s text:c="3"/>two<text:line-break/>three</text:p>'
        "<table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
        "<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row>"
    )
    parsed = parse(documents.odt(body, meta=meta))
    assert parsed.text == "## Head\n\nOne   two\nthree\n\na \tb"
    assert (parsed.title, parsed.author, parsed.keywords) == ("Odd", "Ada", ("kw",))


def test_a_book_in_the_order_of_its_spine() -> None:
    parsed = parse(documents.epub(two="<h1>Two</h1><p>Then this.</p>", one="<p>At last.</p>"))
    assert paged(parsed) == ["# Two\n\nThen this.", "At last."]
    assert (parsed.title, parsed.author, parsed.language, parsed.created) == ("A book", "Ada", "de", "1843")
    assert parsed.keywords == ("engines",)


def test_the_language_that_a_pdf_states() -> None:
    data = documents.pdf("Words").replace(b"/Type/Catalog", b"/Type/Catalog/Lang(de-AT)")
    assert (parse(data).language, parse(data).language_detected) == ("de-AT", False)


def test_pdf() -> None:
    info = "/Title(On engines)/Author(Ada)/Keywords(a, b)/CreationDate(D:20260131120000+01'00')/ModDate(D:2026)"
    parsed = parse(documents.pdf("The first page", "The second page", info=info))
    assert paged(parsed) == ["The first page", "The second page"]
    assert (parsed.title, parsed.author, parsed.keywords) == ("On engines", "Ada", ("a", "b"))
    assert (parsed.created, parsed.modified) == ("2026-01-31T12:00:00+01:00", "2026")
    assert parse(b"junk before\n" + documents.pdf("Found all the same")).text == "Found all the same"


def test_html() -> None:
    page = (
        '<!DOCTYPE html><html lang="en"><head><title>A  page</title><meta name="author" content="Ada">'
        '<meta name="keywords" content="x, y"><script>var a = "<p>no</p>";</script><style>p {}</style></head>'
        "<body><h2>Head</h2><p>One &amp; <b>two</b>th <i>three</i>.<br>Four</p><ul><li>a<li>b</ul>"
        '<table><tr><td>1</td><td>2</td></tr></table><img alt="a dog" src="http://example.invalid/x"><noscript>no</noscript></body></html>'
    )
    parsed = parse(page.encode())
    assert parsed.text == "## Head\n\nOne & twoth three.\nFour\n\na\nb\n\n1\t2\n\na dog"
    assert (parsed.title, parsed.author, parsed.language, parsed.keywords) == ("A page", "Ada", "en", ("x", "y"))
    tagged = (
        '<html><head><meta property="article:tag" content="Ada, Countess"><meta property="article:tag" content="engines">'
        '<meta name="news_keywords" content="engines, looms"><meta name="keywords" content=""></head><body>Words</body></html>'
    )
    assert parse(tagged.encode()).keywords == ("Ada, Countess", "engines", "looms")
    stated = '<html><meta charset="koi8-r"><body>Привет, мир</body></html>'.encode("koi8-r")
    assert parse(stated).text == "Привет, мир"


def test_mail() -> None:
    message = (
        b"From: Ada <ada@example.com>\r\nTo: bob@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"Date: Sat, 31 Jan 2026 12:00:00 +0100\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"
        b"--B\r\nContent-Type: multipart/alternative; boundary=C\r\n\r\n"
        b"--C\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nSch\xf6n.\r\n"
        b"--C\r\nContent-Type: text/html\r\n\r\n<p>not twice</p>\r\n--C--\r\n"
        b'--B\r\nContent-Type: text/plain; name="a.txt"\r\nContent-Disposition: attachment; filename="a.txt"\r\n\r\nunread\r\n--B--\r\n'
    )
    parsed = parse(message)
    assert parsed.media_type == "message/rfc822"
    assert "Schön." in parsed.text
    assert "Attachments: a.txt" in parsed.text
    assert "not twice" not in parsed.text
    assert "unread" not in parsed.text
    assert (parsed.title, parsed.author, parsed.created) == (
        "Grüße",
        "Ada <ada@example.com>",
        "2026-01-31T12:00:00+01:00",
    )


def test_a_text_that_begins_like_a_mail_is_a_text() -> None:
    assert parse(b"Note: this\nDate: today\n\nis no mail").media_type == "text/plain"


def test_rtf() -> None:
    document = (
        rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Arial Cyr;}{\f2\fcharset128 Mincho;}}"
        rb"{\info{\title On engines}{\author Ada}}{\*\generator X;}\f0 Stra\'dfe \u8364? \{b\}\par {\f1 \'cf\'f0\'e8}"
        rb"{\f2 \'93\'fa\'96\'7b}{\v hidden}\u-10179?\u-8704?{\pict\bin6 {}{}{}end\par}"
    )
    parsed = parse(document)
    assert parsed.text == "Straße € {b}\n\nПри日本😀"
    assert (parsed.title, parsed.author) == ("On engines", "Ada")


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize(
    "text", ["Plain words, two lines.\nHere.", "Привет, мир. Как дела?\n", "日本語 の テキスト です。\n"]
)
def test_unicode_with_and_without_a_mark(text: str, encoding: str) -> None:
    parsed = parse(text.encode(encoding))
    assert parsed.text == text
    assert parsed.encoding == encoding.removesuffix("-sig")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Привет, это текст на русском языке для проверки кодировки.", "cp1251"),
        ("Die Straße ist über die schöne Brücke zu erreichen, natürlich auch für Fußgänger.", "cp1252"),
        ("これは日本語のテキストです。文字コードを判定します。", "shift_jis"),
        ("这是一段中文文本，用于检测编码。我们希望它能被正确识别。", "gb18030"),
    ],
)
def test_encodings_of_old(text: str, encoding: str) -> None:
    assert parse(text.encode(encoding)).text == text


def test_a_few_accents_are_taken_for_windows_1252() -> None:
    parsed = parse("Straße, Café".encode("latin-1"))
    assert (parsed.text, parsed.encoding) == ("Straße, Café", "cp1252")


def test_tables_are_told_by_their_content() -> None:
    parsed = parse(b'name,price,stock\nlamp,3,1\n"chair, red",4,2\n')
    assert parsed.media_type == "text/csv"
    assert parsed.text == "name: lamp; price: 3; stock: 1\n\nname: chair, red; price: 4; stock: 2"
    verse = b"Roses, he said, are red\nViolets, she said, are blue\nSugar is sweet, and so are you"
    assert parse(verse, path=Path("verse.txt")).media_type == "text/plain"
    assert parse(b"a,b\n1,2\n", path=Path("small.csv")).text == "a: 1; b: 2"


def test_json() -> None:
    parsed = parse(json.dumps({"title": "T", "tags": ["a", "b"], "deep": {"n": 1, "none": None}}).encode())
    assert (parsed.media_type, parsed.title) == ("application/json", "T")
    assert parsed.text == "title: T\ntags: a\ntags: b\ndeep.n: 1"
    lines = parse(b'{"a": "x"}\n{"a": "y"}\n')
    assert (lines.media_type, lines.text) == ("application/jsonl", "a: x\n\na: y")
    assert parse(b"{not json}").media_type == "text/plain"


def test_markdown_is_told_by_its_name() -> None:
    parsed = parse(b"Before\n\n# The title #\n\nText", path=Path("x.md"))
    assert (parsed.media_type, parsed.title, parsed.text) == (
        "text/markdown",
        "The title",
        "Before\n\n# The title #\n\nText",
    )


def test_pictures_say_their_size_and_exif() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x013B], exif[0x0132] = 6, "Ada", "2026:01:31 12:00:00"
    Image.new("RGB", (40, 20)).save(out, "JPEG", exif=exif)
    parsed = parse(out.getvalue())
    assert (parsed.media_type, parsed.text) == ("image/jpeg", "")
    assert (parsed.width, parsed.height) == (20, 40)
    assert (parsed.author, parsed.created) == ("Ada", "2026-01-31T12:00:00")
    assert parsed.exif["Artist"] == "Ada"


@pytest.mark.parametrize(
    ("package", "data"),
    [
        ("pypdfium2", documents.pdf("x")),
        ("charset_normalizer", "Привет, мир".encode("cp1251")),
        ("xlrd", documents.xls([["x"]])),
    ],
)
def test_a_missing_extra_is_named(package: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return original(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OptionalDependencyError, match=r"likewise\[ingest\]") as caught:
        parse(data)
    assert caught.value.extra == "ingest"
