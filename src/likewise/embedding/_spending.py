"""What a model that is paid by the token has spent, and how much it may. Knows of no server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from likewise._deadline import remaining
from likewise.errors import BackendTimeout, BudgetExceeded

__all__ = ["Ledger", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What an embedder has spent: the requests that it made, the tokens that were counted, the attempts after the first.

    Tokens are as the server counts them, estimated where it does not. What an answer cost that was lost on the way is not known.
    """

    requests: int = 0
    tokens: int = 0
    retries: int = 0


@dataclass(slots=True)
class Bill:
    """What one request cost, in tokens: nothing, until it says something else."""

    spent: int = 0


class Ledger:
    """Counts what is spent, and lets nothing begin that could pass the budget. Safe to use from several threads."""

    def __init__(self, model: str, budget: int | None) -> None:
        self._model = model
        self._budget = budget
        self._usage = Usage()
        self._reserved = 0
        self._changed = threading.Condition()

    @property
    def usage(self) -> Usage:
        """What is spent until now."""
        with self._changed:
            return self._usage

    def count(self, *, requests: int = 0, retries: int = 0) -> None:
        """Count requests and retries."""
        with self._changed:
            usage = self._usage
            self._usage = replace(usage, requests=usage.requests + requests, retries=usage.retries + retries)

    def check(self, tokens: int) -> None:
        """``BudgetExceeded`` if so many more tokens cannot be spent."""
        with self._changed:
            if self._budget is not None and self._usage.tokens + tokens > self._budget:
                self._exceeded(self._budget, tokens, "at least")

    @contextmanager
    def reserved(self, tokens: int) -> Iterator[Bill]:
        """Keep so many tokens for the block, then count what its bill says.

        If they are there only when requests that are under way turn out to need less, wait for those. ``BudgetExceeded`` if they are
        not; ``BackendTimeout`` at the deadline.
        """
        with self._changed:
            while self._budget is not None and self._usage.tokens + self._reserved + tokens > self._budget:
                if not self._reserved:
                    self._exceeded(self._budget, tokens, "up to")
                if not self._changed.wait(remaining()):
                    raise BackendTimeout(f"the deadline passed while other requests for {self._model} were under way")
            self._reserved += tokens
        bill = Bill()
        try:
            yield bill
        finally:
            with self._changed:
                self._reserved -= tokens
                self._usage = replace(self._usage, tokens=self._usage.tokens + bill.spent)
                self._changed.notify_all()

    def _exceeded(self, budget: int, tokens: int, bound: str) -> None:
        spent = self._usage.tokens
        raise BudgetExceeded(
            f"the budget of {budget:,} tokens for {self._model} does not suffice: {spent:,} are spent, and this takes {bound} {tokens:,} "
            "more, so it was not sent: make the embedder with a larger budget, or embed less",
            model=self._model,
            budget=budget,
            spent=spent,
            needed=tokens,
        )
