"""What the worker takes for a statement, and how errors are put in SQL's words."""

from __future__ import annotations

import base64
import inspect
import json
from typing import Any

import pytest

from likewise import errors
from likewise.abc.embedder import ModelCard
from likewise.abc.models import model_key
from likewise.errors import LikewiseError
from likewise.worker._statement import Embed, Nothing, Setting, Statement, WireRequest, parse_statement, wire_error
from likewise.worker._wire import WireError

GOOD: dict[str, Any] = {"kind": "text", "input": "x", "model": "mini", "within": 2}


def parse(text: str) -> Statement:
    return parse_statement(text, most_seconds=60)


def embed(**changed: Any) -> Statement:
    return parse(f"EMBED {json.dumps({**GOOD, **changed})}")


def test_a_text() -> None:
    assert embed() == Embed(WireRequest("x", "mini", 2.0))
    assert parse(f"  embed\n{json.dumps(GOOD)} ; ") == embed()
    assert WireRequest("x", "mini", 2.0).kind == "text"


def test_a_picture_as_sql_encodes_it() -> None:
    picture = bytes(range(256))
    lines = base64.encodebytes(picture).decode()  # in lines, as encode(…, 'base64') gives it
    assert embed(kind="image", input=lines) == Embed(WireRequest(picture, "mini", 2.0))
    assert WireRequest(picture, "mini", 2.0).kind == "image"


def test_a_model_by_all_that_it_is() -> None:
    key = model_key(ModelCard("mini", 384, ("text",), revision="3"), "query: ")
    assert embed(model=json.loads(key)) == Embed(WireRequest("x", ("mini", "3", 384, "query: "), 2.0))


def test_the_server_bounds_the_time() -> None:
    assert embed(within=1e9) == Embed(WireRequest("x", "mini", 60.0))
    assert embed(within=10**400) == Embed(WireRequest("x", "mini", 60.0))


@pytest.mark.parametrize("text", ["", " ", ";", " ; ;", "\n"])
def test_nothing(text: str) -> None:
    assert parse(text) == Nothing()


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("set client_encoding to 'LATIN1'", Setting("client_encoding", "LATIN1")),
        ("SET client_encoding = utf8;", Setting("client_encoding", "utf8")),
        ("set session datestyle to 'ISO, MDY'", Setting("datestyle", "ISO, MDY")),
        ("set time zone 'UTC'", Setting("timezone", "UTC")),
    ],
)
def test_settings(text: str, setting: Setting) -> None:
    assert parse(text) == setting


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("select 1", "0A000"),
        ("embed", "42601"),
        ("embed x", "42601"),
        ("embed {", "42601"),
        ("embed {} {}", "42601"),
        ("embed {}; embed {}", "42601"),
        ("embed " + '{"a":' * 100_000, "42601"),
        ("embed {}", "22023"),
        ('embed {"kind": NaN}', "42601"),
        ("embed {" + '"within": 1' + "0" * 10_000 + "}", "42601"),
        ("set client_encoding to 'KLINGON'", "22023"),
        ("set role to postgres", "0A000"),
        ("begin", "0A000"),
    ],
)
def test_what_is_no_statement(text: str, sqlstate: str) -> None:
    with pytest.raises(WireError) as raised:
        parse(text)
    assert raised.value.sqlstate == sqlstate
    assert not raised.value.fatal
    assert len(raised.value.message) < 300


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "sound"},
        {"kind": ["text"]},
        {"input": 1},
        {"input": None},
        {"input": "\ud800"},
        {"kind": "image", "input": "***"},
        {"kind": "image", "input": "é"},
        {"model": ""},
        {"model": None},
        {"model": ["mini", "1", 384]},
        {"model": ["mini", "1", "384", ""]},
        {"model": ["mini", "1", True, ""]},
        {"model": ["", "1", 384, ""]},
        {"model": ["mini", None, 384, ""]},
        {"within": 0},
        {"within": -1},
        {"within": "1"},
        {"within": True},
        {"within": 1e999},
        {"more": 1},
    ],
)
def test_wrong_requests_are_refused_by_name(changed: dict[str, Any]) -> None:
    text = json.dumps({**GOOD, **changed}).replace("Infinity", "1e999")
    with pytest.raises(WireError) as raised:
        parse(f"EMBED {text}")
    assert raised.value.sqlstate == "22023"
    words = raised.value.message
    assert any(name in words for name in ("picture", *changed)) or "text" in words


def made(kind: type[LikewiseError]) -> LikewiseError:
    """An error of a kind, with something for each of its arguments."""
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is inspect.Parameter.empty:
            given[name] = 1 if "int" in str(parameter.annotation) else "something"
    return kind(**given)


KINDS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_every_error_has_a_sqlstate_and_its_own_text(kind: type[LikewiseError]) -> None:
    error = made(kind)
    told = wire_error(error, within=1)
    assert len(told.sqlstate) == 5
    assert not told.sqlstate.startswith("08"), "this class is about the connection itself"
    assert told.message == str(error)
    assert not told.fatal


def test_the_sqlstates_that_others_rely_on() -> None:
    states = {kind.__name__: wire_error(made(kind), within=1).sqlstate for kind in KINDS}
    assert states["InvalidArgument"] == states["InvalidRecord"] == "22023"
    assert states["ModelNotAvailable"] == "LW005"
    assert states["BackendTimeout"] == "LW002"
    assert wire_error(TimeoutError(), within=1).sqlstate == "LW002"


def test_of_other_errors_only_the_kind_is_told() -> None:
    told = wire_error(KeyError("a secret"), within=1)
    assert told.sqlstate == "LW006"
    assert "KeyError" in told.message
    assert "secret" not in told.message + told.hint
