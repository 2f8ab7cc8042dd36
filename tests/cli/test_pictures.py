"""Pictures in a terminal: which protocol is chosen, and what is printed."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from rich.console import Console

from likewise.cli.pictures import Protocol, choose_protocol, show_row


def console(
    *, terminal: bool = True, colours: Literal["standard", "truecolor"] = "truecolor", width: int = 80
) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=terminal,
        color_system=colours if terminal else None,
        width=width,
        legacy_windows=False,
    )


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"KITTY_WINDOW_ID": "1", "TMUX": "/tmp/x"}, "blocks"),
        ({}, "blocks"),
    ],
)
def test_the_environment_decides(environment: dict[str, str], wanted: str) -> None:
    assert choose_protocol("auto", console(), environment) == wanted


def test_no_pictures_without_a_terminal_or_colours() -> None:
    assert choose_protocol("auto", console(terminal=False), {"KITTY_WINDOW_ID": "1"}) == "none"
    assert choose_protocol("auto", console(colours="standard"), {}) == "none"
    assert choose_protocol("blocks", console(terminal=False), {}) == "blocks"


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 40), "#ff0000").save(path)
    return path


def shown(protocol: Protocol, pictures: list[tuple[Path | None, tuple[str, ...]]], width: int = 80) -> str:
    target = console(width=width)
    show_row(target, protocol, pictures)
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def test_blocks(red: Path) -> None:
    text = shown("blocks", [(red, ("a red square", "x")), (None, ("nothing",))])
    assert "\x1b[38;2;255;0;0;48;2;255;0;0m▀" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert len(plain) == 10 + 2
    assert plain[0].strip() == "▀" * 20
    assert plain[10].split("  ")[0] == "a red square"
    assert "nothing" in plain[10]


def test_kitty(red: Path) -> None:
    text = shown("kitty", [(red, ("a",))])
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert chunks[0][0].startswith("a=T,f=100,")
    assert [c[0][-3:] for c in chunks] == ["m=1"] * (len(chunks) - 1) + ["m=0"]
    assert Image.open(io.BytesIO(base64.b64decode("".join(c[1] for c in chunks)))).size == (200, 200)


def test_iterm(red: Path) -> None:
    payload = re.search(r"\x1b\]1337;File=inline=1;[^:]*:([^\x07]*)\x07", shown("iterm", [(red, ("a",))]))
    assert payload is not None
    assert Image.open(io.BytesIO(base64.b64decode(payload[1]))).size == (200, 200)


def test_no_more_than_fit(red: Path) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown("blocks", [(red, (f"n{n}",)) for n in range(9)], width=45)).splitlines()
    assert plain[-1].split() == ["n0", "n1"]
    assert max(map(len, plain)) <= 45
