"""A document's language is the one that it states, or the one of its text where that is plain to see; never a guess."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from likewise.ingest import ParserPool, parse
from likewise.ingest.parsing import ParseOptions, languages

#: The first article of the Universal Declaration of Human Rights.
TEXTS = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and should act towards one another in a spirit of brotherhood.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und sollen einander im Geiste der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y conciencia, deben comportarse fraternalmente los unos con los otros.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم بعضا بروح الإخاء.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_text_that_states_none(language: str) -> None:
    parsed = parse(TEXTS[language].encode())
    assert (parsed.language, parsed.language_detected) == (language, True)


def test_what_a_document_states_is_not_put_to_the_test() -> None:
    page = f'<html lang="%s"><body><p>{TEXTS["de"]}</p></body></html>'
    for stated, language, detected in (
        ("fr-CA", "fr-CA", False),
        ("en_US", "en-US", False),
        ("zh-Hant-TW", "zh-Hant-TW", False),
        ("", "de", True),
        ("x-none", "de", True),
        ("German", "de", True),
        ("de, en", "de", True),
    ):
        parsed = parse((page % stated).encode())
        assert (parsed.language, parsed.language_detected) == (language, detected), stated


@pytest.mark.parametrize(
    "text",
    [
        "Alle Menschen sind frei und gleich",  # too short
        "人人生而自由",
        "0x3f 12.5 44 17 92 1001 88.2 " * 20,
        "AB-1234 XZ-9981 QQ-7712 KL-0192 " * 15,
        "asdf qwer zxcv uiop hjkl vbnm tyui " * 10,
        "x = foo(bar); if (a[i] != b) { return c->d; } " * 10,
        "https://example.com/a/b?c=d " * 15,
    ],
)
def test_what_is_short_or_no_language_has_none(text: str) -> None:
    parsed = parse(text.encode())
    assert (parsed.language, parsed.language_detected) == (None, False)


def test_it_is_left_out_where_that_is_asked_for() -> None:
    options = ParseOptions(detect_language=False)
    assert parse(TEXTS["de"].encode(), options=options).language is None
    with ParserPool(options=options) as pool:
        assert pool.parse(TEXTS["de"].encode(), path=Path("x.txt")).language is None
    with ParserPool() as pool:
        parsed = pool.parse(TEXTS["de"].encode(), path=Path("x.txt"))
        assert (parsed.language, parsed.language_detected) == ("de", True)


def test_without_the_package_nothing_is_detected_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.split(".")[0] == "py3langid":
            raise ImportError(name)
        return original(name, *arguments, **more)

    languages._classifier.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        assert parse(TEXTS["de"].encode()).language is None
    languages._classifier.cache_clear()
    assert parse(TEXTS["de"].encode()).language == "de"
