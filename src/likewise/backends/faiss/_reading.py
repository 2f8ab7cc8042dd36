"""How new an answer has to be. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.abc.feeds import Position
from likewise.errors import InvalidArgument

__all__ = ["CURRENT", "Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One of the rules; none of them is ``CURRENT``. What the store itself wrote is seen by all but ``available``."""

    at_least: Position | None = None
    within: float | None = None
    newest: bool = False
    available: bool = False

    @classmethod
    def checked(cls, at_least: object, within: object, newest: object, available: object) -> Reading:
        """The rule, if it is just one, and has sense."""
        if (at_least is not None) + (within is not None) + bool(newest) + bool(available) != 1:
            raise InvalidArgument("reading needs one of: at_least=, within=, newest=True, available=True")
        if at_least is not None and not isinstance(at_least, str):
            raise InvalidArgument(
                f"at_least is {at_least!r:.80}; it must be a position, as position() and writes give it"
            )
        if within is not None and (isinstance(within, bool) or not isinstance(within, int | float) or not within >= 0):
            raise InvalidArgument(f"within is {within!r:.80}; it must be a number of seconds, 0 or more")
        return cls(
            at_least=None if at_least is None else Position(at_least),
            within=None if within is None else float(within),
            newest=bool(newest),
            available=bool(available),
        )


#: What has come here, and what the store itself wrote.
CURRENT = Reading()
