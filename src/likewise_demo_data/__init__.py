"""Data for ``likewise demo``: photographs with captions, an invented shop and short texts. See README.md for origin and licence."""

from pathlib import Path

DIRECTORY = Path(__file__).parent
