"""``likewise install``: the schema and the SQL functions into a database."""

from __future__ import annotations

import argparse

from likewise.cli.context import Context
from likewise.cli.exits import Exit

HELP = "create or update Likewise's schema and SQL functions in a database"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""


def run(context: Context) -> int:
    """Install."""
    return Exit.OK
