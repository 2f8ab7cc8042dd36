"""Pictures in a terminal: kitty's and iTerm2's protocols where they are understood, half-block characters elsewhere.

A row of pictures is composed into one strip, so that captions can stand under it in columns.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, cast

from PIL import Image, ImageOps
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

__all__ = ["Protocol", "choose_protocol", "show_row"]

Protocol: TypeAlias = Literal["kitty", "iterm", "blocks", "none"]

#: Width of one picture in columns, and its height in lines; a cell of a terminal is about twice as high as wide.
_COLUMNS = 20
_LINES = 10
_GAP = 2
#: Pixels of a cell, for the protocols that show true pictures.
_CELL = (10, 20)
_KITTY_CHUNK = 4096


def choose_protocol(wanted: str, console: Console, environment: Mapping[str, str] | None = None) -> Protocol:
    """How to show pictures on this console; what was asked for wins over what is guessed from the environment."""
    if wanted != "auto":
        return cast("Protocol", wanted)
    environment = os.environ if environment is None else environment
    if not console.is_terminal or console.color_system in (None, "standard") or console.legacy_windows:
        return "none"
    if not (environment.get("TMUX") or environment.get("STY") or environment.get("TERM", "").startswith("screen")):
        program = environment.get("TERM_PROGRAM", "")
        if environment.get("KITTY_WINDOW_ID") or "kitty" in environment.get("TERM", "") or program == "ghostty":
            return "kitty"
        if program in ("iTerm.app", "WezTerm", "mintty"):
            return "iterm"
    return "blocks"


def show_row(console: Console, protocol: Protocol, pictures: Sequence[tuple[Path | None, Sequence[str]]]) -> None:
    """Print pictures side by side with lines of caption under each, as many as the terminal is wide."""
    fitting = max(1, (console.width + _GAP) // (_COLUMNS + _GAP))
    pictures = pictures[:fitting]
    if not pictures:
        return
    images = [_open(path) for path, _ in pictures]
    width = len(pictures) * (_COLUMNS + _GAP) - _GAP
    if protocol == "blocks":
        console.print(_Blocks(_strip(images, (_COLUMNS, 2 * _LINES), _GAP)), end="")
    elif protocol in ("kitty", "iterm"):
        pixels = (_COLUMNS * _CELL[0], _LINES * _CELL[1])
        data = io.BytesIO()
        _strip(images, pixels, _GAP * _CELL[0]).save(data, "PNG")
        sequence = _kitty(data.getvalue(), width) if protocol == "kitty" else _iterm(data.getvalue(), width)
        console.file.write(sequence + "\n")
    for number in range(max(len(lines) for _, lines in pictures)):
        cells = [_fit(lines[number] if number < len(lines) else "") for _, lines in pictures]
        console.print(Text((" " * _GAP).join(cells).rstrip(), style="bold" if number == 0 else "dim"), no_wrap=True)


def _fit(text: str) -> str:
    return set_cell_size(text if cell_len(text) <= _COLUMNS else set_cell_size(text, _COLUMNS - 1) + "…", _COLUMNS)


def _open(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _strip(images: Sequence[Image.Image | None], size: tuple[int, int], gap: int) -> Image.Image:
    """The pictures beside each other, each fitted into ``size``; what they leave free is transparent."""
    strip = Image.new("RGBA", (len(images) * (size[0] + gap) - gap, size[1]))
    for place, image in enumerate(images):
        if image is not None:
            fitted = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
            left = place * (size[0] + gap) + (size[0] - fitted.width) // 2
            strip.paste(fitted, (left, (size[1] - fitted.height) // 2))
    return strip


class _Blocks:
    """A picture as lines of ``▀``: the upper pixel is the character's colour, the lower one its background."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image

    def __rich_console__(self, _console: Console, _options: object) -> list[Segment]:
        width, height = self._image.size
        data = self._image.tobytes()  # four bytes a pixel: red, green, blue, alpha
        segments: list[Segment] = []
        for y in range(0, height - 1, 2):
            for x in range(width):
                upper, lower = 4 * (y * width + x), 4 * ((y + 1) * width + x)
                segments.append(_block(data[upper : upper + 4], data[lower : lower + 4]))
            segments.append(Segment.line())
        return segments


def _block(upper: bytes, lower: bytes) -> Segment:
    over, under = (f"#{pixel[:3].hex()}" if pixel[3] else None for pixel in (upper, lower))
    if over is None and under is None:
        return Segment(" ")
    if over is None:
        return Segment("▄", Style(color=under))
    return Segment("▀", Style(color=over, bgcolor=under))


def _kitty(png: bytes, columns: int) -> str:
    payload = base64.b64encode(png).decode("ascii")
    parts = [payload[i : i + _KITTY_CHUNK] for i in range(0, len(payload), _KITTY_CHUNK)]
    sequence = []
    for number, part in enumerate(parts):
        head = f"a=T,f=100,q=2,c={columns},r={_LINES}," if number == 0 else ""
        sequence.append(f"\x1b_G{head}m={int(number < len(parts) - 1)};{part}\x1b\\")
    return "".join(sequence)


def _iterm(png: bytes, columns: int) -> str:
    payload = base64.b64encode(png).decode("ascii")
    return (
        f"\x1b]1337;File=inline=1;size={len(png)};width={columns};height={_LINES};preserveAspectRatio=0:{payload}\x07"
    )
