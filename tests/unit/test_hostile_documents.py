"""Documents made to do harm, and those that are broken, are refused with a reason: nothing hangs, grows, is fetched or written."""

from __future__ import annotations

import io
import random
import socket
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from likewise.ingest import Limits, Parsed, ParserPool, Unreadable, parse
from likewise.ingest.parsing import is_plain

from . import documents

ENCRYPTED_PDF = f"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O({'x' * 32})/U({'y' * 32})>>/ID[(a)(a)]"


DOCUMENTS = {
    "docx": documents.docx("<w:p><w:r><w:t>Some words</w:t></w:r></w:p>", styles="<w:styles xmlns:w='w'/>"),
    "xlsx": documents.xlsx('<row><c s="1"><v>45292</v></c></row>'),
    "pptx": documents.pptx("Some", "words"),
    "odt": documents.odt("<text:p>Some words</text:p>"),
    "epub": documents.epub(one="<p>Some</p>", two="<p>words</p>"),
    "pdf": documents.pdf("Some", "words", info="/Title(x)/CreationDate(D:2026)"),
    "rtf": rb"{\rtf1\ansi{\fonttbl{\f0\fcharset204 A;}}\f0 Some \u8364? w\'f6rds\par}",
    "eml": b"From: a@b.c\nTo: b@b.c\nSubject: =?utf-8?q?x?=\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\nSome\n--B--\n",
    "html": b"<html><head><title>x</title></head><body><p>Some words</p></body></html>",
    "json": b'{"a": [1, "x", {"b": null}]}',
    "xls": documents.xls([["Some", "words"], [45_292.5, 3.0]]),
}
#: What is simple enough to be parsed in our own process.
PLAIN = {
    "md": b"---\ntitle: \"Some words\"\ntags: [a, 'b', c d]\nlang: en\n---\n# Head\n\nSome words\n",
    "tif": documents.picture("Some", "words", form="TIFF"),
    "png": documents.picture("Some words"),
    "jpeg": documents.picture("Some words", form="JPEG"),
}


def refused(data: bytes, stage: str, words: str, **limits: int) -> None:
    path = Path("some/file")
    with pytest.raises(Unreadable, match=words) as caught:
        parse(data, path=path, limits=Limits(**limits))
    assert (caught.value.stage, caught.value.path) == (stage, path)
    assert str(caught.value).startswith("some/file: ")


def test_an_archive_that_unpacks_to_far_more_than_it_is() -> None:
    refused(
        documents.docx(" " * 40_000_000),
        "unpacking",
        "decompression bomb: 'word/document.xml' unpacks to more than 200 times",
    )


def test_an_archive_that_unpacks_to_too_much_in_all() -> None:
    book = documents.epub(**{f"c{n}": random.Random(n).randbytes(30_000).hex() for n in range(4)})
    assert parse(book).text
    refused(book, "unpacking", "decompression bomb: it would unpack to more than 150,000 bytes", unpacked=150_000)


def test_an_archive_whose_directory_lies_about_sizes() -> None:
    data = bytearray(documents.docx("<w:p><w:r><w:t>word</w:t></w:r></w:p>" * 50_000))
    place = data.index(b"PK\x01\x02")
    while place >= 0:  # each entry claims to unpack to ten bytes
        data[place + 24 : place + 28] = struct.pack("<I", 10)
        place = data.find(b"PK\x01\x02", place + 1)
    with pytest.raises(Unreadable) as caught:
        parse(bytes(data))
    assert caught.value.stage == "unpacking"


def test_an_archive_with_too_many_entries() -> None:
    many = documents.archive({str(n): b"" for n in range(200)})
    refused(many, "unpacking", "200 entries, at most 100", entries=100)


@pytest.mark.parametrize(
    "declaration",
    ['<!ENTITY a "ha"><!ENTITY b "&a;&a;">', '<!ENTITY b SYSTEM "file:///etc/passwd">', '<!ENTITY % b "x">'],
)
def test_entities_are_refused(declaration: str) -> None:
    content = f'<!DOCTYPE d [{declaration}]><d xmlns:text="t"><text:p>&b;</text:p></d>'
    entries = {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content}
    refused(documents.archive(entries), "parsing", "declares entities")


def test_nothing_outside_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    url = "http://example.invalid/x"
    external = (
        f'<Relationships><Relationship Id="r0" Type="x/slide" TargetMode="External" Target="{url}"/></Relationships>'
    )
    show = documents.open_xml(
        "ppt/presentation.xml",
        "presentationml.presentation",
        {
            "ppt/presentation.xml": '<p xmlns:r="r"><sldId r:id="r0"/></p>',
            "ppt/_rels/presentation.xml.rels": external,
            url: "<a><t>an entry of that name</t></a>",
        },
    )
    assert parse(show).text == ""
    dtd = f'<!DOCTYPE d SYSTEM "{url}"><d xmlns:text="t"><text:p>Here</text:p></d>'
    odt = documents.archive({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": dtd})
    assert parse(odt).text == "Here"
    page = f'<html><link rel=stylesheet href="{url}"><script src="{url}"></script><body><img src="{url}">Seen<iframe src="{url}"></iframe>'
    assert parse(page.encode()).text == "Seen"


def test_names_that_lead_out_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.xhtml").write_text("<p>secret</p>")
    book = documents.epub(one="<p>inside</p>")
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(
                name, old.read(name).replace(b'href="text/one', f'href="../../../..{tmp_path}/secret'.encode())
            )
        new.writestr("../escaped.txt", "x")
        new.writestr("/absolute.txt", "x")
    assert parse(out.getvalue()).text == ""
    assert [p.name for p in tmp_path.rglob("*")] == ["secret.xhtml"]
    assert not (tmp_path.parent / "escaped.txt").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (documents.odt("<x>" * 300 + "</x>" * 300), "nested more than 256"),
        (b"{\\rtf1" + b"{" * 100_000, "nested more than 256"),
        (b"<html><body>" + b"<object>" * 100_000, "nested more than 256"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'{"a":' * 400 + b"1" + b"}" * 400, "nested too deep"),
    ],
    ids=["xml", "rtf", "html", "json", "json-400"],
)
def test_what_is_nested_too_deep(data: bytes, words: str) -> None:
    refused(data, "parsing", words)


@pytest.mark.parametrize(
    "data",
    [
        b"<!---->" * 500 + b"no page",
        b"<!-- " * 800 + b"no page",
        b"From:" + b"\n " * 8_000,
        b"# a" + b" " * 20_000 + b"b" + b" " * 20_000 + b"c",
        documents.docx(f"<w:p><w:r><w:t>a{' ' * 300_000}b</w:t></w:r></w:p>" + random.Random(1).randbytes(9_000).hex()),
        rb"{\rtf1 a" + b"\\tab" * 100_000 + b" b}",
    ],
    ids=["comments", "open-comments", "header", "heading", "spaces", "tabs"],
)
def test_patterns_take_no_more_than_linear_time(data: bytes) -> None:
    started = time.process_time()
    assert is_plain(data) in (True, False)
    assert parse(data, path=Path("x.md")).text
    assert time.process_time() - started < 5


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_only_what_is_simple_is_parsed_in_our_own_process(kind: str) -> None:
    assert not is_plain(DOCUMENTS[kind])


def test_messages_in_messages() -> None:
    head = "From: a@example.com\r\nTo: b@example.com\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
    message = (head + "Content-Type: message/rfc822\r\n\r\n") * 80 + head + "\r\nText"
    refused(message.encode(), "parsing", "nested too deep")


def test_elements_that_never_end_take_no_depth() -> None:
    assert parse(b"<html><body>" + b"<p><b><div>" * 50_000 + b"end").text == "end"


@pytest.mark.parametrize(
    ("data", "stage"),
    [
        (documents.pdf("secret", encrypt=ENCRYPTED_PDF), "parsing"),
        (documents.ole({"EncryptedPackage": b"x", "EncryptionInfo": b"x"}), "unpacking"),
        (documents.xls([["secret"]], protected=True), "unpacking"),
        (documents.odt("x", **{"META-INF__manifest": "<m><encryption-data/></m>"}), "unpacking"),
    ],
    ids=["pdf", "office", "xls", "opendocument"],
)
def test_encrypted_files_say_so(data: bytes, stage: str) -> None:
    refused(data, stage, "encrypted: save it without a password")


def test_an_encrypted_entry_says_so() -> None:
    data = bytearray(documents.docx("<w:p/>"))
    for signature, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = data.find(signature)
        while place >= 0:
            data[place + flags] |= 1
            place = data.find(signature, place + 1)
    refused(bytes(data), "unpacking", "encrypted")


def test_a_pdf_of_ten_thousand_pages() -> None:
    refused(documents.pdf(*["x"] * 10_000), "parsing", "10,000 pages, at most 5,000 are read: split it")


def test_a_presentation_of_too_many_slides() -> None:
    refused(documents.pptx("a", "b", "c"), "parsing", "3 slides, at most 2", pages=2)


@pytest.mark.parametrize(
    "data",
    [
        documents.docx("<w:p><w:r><w:t>word</w:t></w:r></w:p>" * 100),
        documents.xlsx('<row><c t="s"><v>0</v></c></row>' * 100, strings="<si><t>word</t></si>"),
        documents.pptx("word " * 100),
        documents.odt("<text:p>word word</text:p>" * 100),
        documents.epub(one="<p>word</p>" * 100),
        documents.pdf(*["some words"] * 50),
        b"<html>" + b"<p>word</p>" * 100,
        rb"{\rtf1 " + b"word " * 100 + b"}",
        b"a,b,c\n" + b"1,2,3\n" * 100,
        b'{"a": "' + b"word " * 100 + b'"}',
        b"word " * 100,
    ],
    ids=["docx", "xlsx", "pptx", "odt", "epub", "pdf", "html", "rtf", "csv", "json", "text"],
)
def test_a_text_that_is_too_long_is_refused_and_not_cut(data: bytes) -> None:
    assert len(parse(data).text) > 200
    refused(data, "parsing", "longer than 200 characters: split the document", characters=200)


@pytest.mark.parametrize(
    ("data", "stage", "words"),
    [
        (b"", "reading", "empty"),
        (b" \n\t ", "reading", "white space"),
        (bytes(range(256)), "detecting", "UTF-8"),
        (b"\x1f\x8b\x08\x00rest", "detecting", "gzip archive: unpack it first"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
            "detecting",
            "or of its kind: save it as DOCX, XLSX or PPTX",
        ),
        (
            documents.ole({"WordDocument": b"x"}),
            "detecting",
            r"before 2007 \(DOC\), which is not read: save it as DOCX",
        ),
        (documents.ole({"worddocument": b"x"}), "detecting", r"\(DOC\)"),
        (documents.ole({"PowerPoint Document": b"x"}), "detecting", r"\(PPT\), which is not read: save it as PPTX"),
        (documents.ole({"__properties_version1.0": b"x"}), "detecting", r"\(MSG\), which is not read: save it as EML"),
        (documents.ole({"Workbook": b"x"}), "parsing", "the workbook is damaged"),
        (documents.archive({"a.txt": "x"}), "detecting", "no document of a known format"),
        (b"%PDF-1.7 and so on", "parsing", "damaged or cut off"),
        (b"PK\x03\x04 and so on", "unpacking", "damaged or cut off"),
        (documents.odt("<unclosed>"), "parsing", "XML is damaged"),
        (b"\xff\xfe\x00\xd8", "detecting", "begins as utf-16 text"),
        (b"MZ\x90\x00\x03\x00\x00\x00" * 8, "detecting", "neither a picture nor a document nor text"),
        (b"\x89PNG\r\n\x1a\nrest", "parsing", "picture is damaged"),
    ],
)
def test_what_is_broken_or_unknown_says_so(data: bytes, stage: str, words: str) -> None:
    refused(data, stage, words)


def test_what_goes_by_a_picture_s_name_is_no_text_by_a_guess() -> None:
    with pytest.raises(Unreadable, match="its name is a picture's, but its content is not"):
        parse(b"\xde\xad\xbe\xef" * 8, path=Path("not-a-picture.jpg"))
    assert parse(b"\xde\xad\xbe\xef" * 8).encoding is not None
    assert parse("Wörter".encode(), path=Path("words.jpg")).text == "Wörter"


@pytest.mark.parametrize("kind", DOCUMENTS | PLAIN)
def test_whatever_is_flipped_or_cut_gives_a_document_or_one_error(kind: str) -> None:
    chance = random.Random(kind)
    whole = (DOCUMENTS | PLAIN)[kind]
    for round_ in range(150):
        data = bytearray(whole)
        if round_ % 3 == 0:
            del data[chance.randrange(len(data)) :]
        for _ in range(round_ % 3 * 2 + round_ % 5):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            parsed = parse(bytes(data))
        except Unreadable:
            continue
        assert isinstance(parsed, Parsed)
        parsed.text.encode()
        assert "\x00" not in parsed.text


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(seconds=20) as pool:
        yield pool


@settings(max_examples=300, deadline=20_000, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(DOCUMENTS | PLAIN)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=8),
    end=st.floats(0.05, 1),
)
def test_whatever_bits_are_flipped_a_process_of_its_own_gives_a_document_or_one_error(
    pool: ParserPool, kind: str, flips: list[tuple[float, int]], end: float
) -> None:
    data = bytearray((DOCUMENTS | PLAIN)[kind])
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    path, error = Path(f"some/file.{kind}"), None
    try:
        assert isinstance(pool.parse(bytes(data[: max(1, int(end * len(data)))]), path=path), Parsed)
    except Unreadable as raised:
        error = raised
    if error is not None:
        assert error.path == path
        assert error.stage in {"detecting", "unpacking", "parsing"}  # no crash, and no end of the time
