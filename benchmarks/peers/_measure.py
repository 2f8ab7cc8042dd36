"""The measurements: loads into empty collections, searches at equal recall, filtered searches; systems take turns in every round."""

from __future__ import annotations

import contextlib
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.testing.database import empty_database
from peers._data import Data, Truth
from peers._harness import (
    TITLES,
    PeerFailed,
    Process,
    ServerMemory,
    environment,
    folder_size,
    plain_url,
    settle,
    sizes,
)

Result = dict[str, Any]
#: seconds after which a series of queries is broken off; what has been answered counts
LIMIT_S = 60
#: queries asked untimed before those of a filtered series; the other series ask all of theirs, so that what came before does not matter
WARM = 10
#: an ef_search at which all systems over PostgreSQL are measured, for what they cost over the same index
SAME = 100


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    queries: int
    filter_queries: int
    rounds: int
    load_rounds: int
    targets: tuple[float, ...] = (0.95, 0.99)
    filters: bool = True
    #: seconds that one load, and the building of its indexes, may take each
    patience: float = 1800


class Bench:
    """All systems on one set of data; :attr:`results` has what is known of each, and its error if it failed."""

    def __init__(self, systems: list[str], data: Data, plan: Plan, server: str, work: Path) -> None:
        self._data, self._plan, self._server, self._work = data, plan, server, work
        self._pythons: dict[str, Path] = {}
        self._places: dict[str, str] = {}
        self._stacks: dict[str, contextlib.ExitStack] = {}
        self._processes: dict[str, Process] = {}
        self.results: dict[str, Result] = {
            system: {"title": TITLES[system], "error": None, "load": [], "search": {}, "filtered": []}
            for system in systems
        }

    def run(self) -> dict[str, Result]:
        try:
            self._install()
            self._load()
            self._open()
            self._search()
            if self._plan.filters:
                self._search_filtered()
        finally:
            for system, process in self._processes.items():
                with contextlib.suppress(PeerFailed):
                    process.close()
                self._say(system, "closed")
            for stack in self._stacks.values():
                stack.close()
        return self.results

    # What every step needs

    @staticmethod
    def _say(system: str, text: str) -> None:
        print(f"  {system:20} {text}", flush=True)

    @property
    def _alive(self) -> list[str]:
        return [system for system, result in self.results.items() if result["error"] is None]

    @contextlib.contextmanager
    def _watching(self, system: str) -> Iterator[None]:
        """A failure of a system is its result, and does not concern the others."""
        try:
            yield
        except PeerFailed as error:
            self.results[system]["error"] = str(error)
            self._say(system, f"FAILED: {error}")

    def _in_turn(self, name: str, rounds: int, step: Callable[[str, int], None]) -> None:
        """One step of each system, round after round; the order within a round changes."""
        for number in range(rounds):
            print(f"{name}, round {number + 1} of {rounds}", flush=True)
            order = self._alive
            random.Random(number).shuffle(order)
            for system in order:
                with self._watching(system):
                    step(system, number)

    def _process(self, system: str) -> Process:
        return Process(
            system,
            self._pythons[system],
            self._places[system],
            self._data.folder,
            self._data.count,
            self._data.fields,
            self._work / "logs" / f"{system}.log",
        )

    # The steps

    def _install(self) -> None:
        for system in self._alive:
            with self._watching(system):
                self._pythons[system] = environment(system, self._work)
                self._places[system] = "nowhere"
                with self._process(system) as process:
                    self.results[system] |= process.ask("hello", timeout=120)

    def _empty_place(self, system: str) -> None:
        """A new database, or a new folder; the one before goes."""
        if system in self._stacks:
            self._stacks.pop(system).close()
        stack = contextlib.ExitStack()
        if self.results[system]["needs"] == "database":
            self._places[system] = plain_url(stack.enter_context(empty_database(self._server)))
        else:
            (self._work / "stores").mkdir(exist_ok=True)
            self._places[system] = stack.enter_context(tempfile.TemporaryDirectory(dir=self._work / "stores"))
        self._stacks[system] = stack

    def _load(self) -> None:
        self._in_turn("load", self._plan.load_rounds, self._load_once)

    def _load_once(self, system: str, number: int) -> None:
        result = self.results[system]
        in_database = result["needs"] == "database"
        self._empty_place(system)
        place = self._places[system]
        with self._process(system) as process, contextlib.ExitStack() as stack:
            before = sizes(place)["disk"] if in_database else 0
            seen = stack.enter_context(ServerMemory(place).watched()) if in_database else None
            patience = self._plan.patience
            measured = process.ask("load", timeout=patience) | process.ask("index", timeout=patience)
            measured["server_memory"] = seen.most if seen else None
        if in_database:
            settle(place)
            now = sizes(place)
            result["disk"], result["vector_index"] = now["disk"] - before, now["vector_index"]
        else:
            result["disk"], result["vector_index"] = folder_size(Path(place)), None
        result["load"].append(measured)
        self._say(
            system, f"{measured['rows'] / measured['load_s']:9,.0f} rows/s, indexed in {measured['index_s']:.1f} s"
        )

    def _open(self) -> None:
        for system in self._alive:
            with self._watching(system):
                self._processes[system] = self._process(system)
                self._processes[system].ask("open", timeout=300)

    def _ask(self, system: str, dial: int | None, queries: int, **condition: Any) -> Result:
        """Answers, and what became of the memory."""
        warm = WARM if condition else queries
        answer = self._processes[system].ask(
            "search", dial=dial, queries=queries, warm=warm, limit_s=LIMIT_S, timeout=10 * LIMIT_S, **condition
        )
        self.results[system]["rss_search"] = answer["rss_peak"]
        return answer

    def _search(self) -> None:
        truth = Truth(self._data, self._plan.queries)
        chosen: dict[str, dict[str, int | None]] = {}

        def calibrate(system: str, _: int) -> None:
            chosen[system] = self._calibrate(system, truth)

        def measure(system: str, _: int) -> None:
            for dial in dict.fromkeys(chosen[system].values()):
                answer = self._ask(system, dial, self._plan.queries)
                for name, wanted in chosen[system].items():
                    if wanted == dial:
                        self._note(self.results[system]["search"][name], answer, truth)

        self._in_turn("equal recall", 1, calibrate)
        self._in_turn("search", self._plan.rounds, measure)

    def _calibrate(self, system: str, truth: Truth) -> dict[str, int | None]:
        """By name of target, the lowest value of the dial that reaches it; targets out of reach are noted and left out."""
        result = self.results[system]
        known: dict[int | None, float] = {}

        def recall(dial: int | None) -> float:
            if dial not in known:
                known[dial] = truth.recall(self._ask(system, dial, self._plan.queries)["found"])
            return known[dial]

        recall(None)
        chosen: dict[str, int | None] = {"default": None}
        result["search"]["default"] = {"dial": result["default"], "recall_then": known[None]}
        for target in self._plan.targets if result["dial"] else ():
            low, high = 0, len(result["dials"])
            while low < high:
                middle = (low + high) // 2
                if recall(result["dials"][middle]) >= target:
                    high = middle
                else:
                    low = middle + 1
            if low < len(result["dials"]):
                chosen[f"{target}"] = result["dials"][low]
                result["search"][f"{target}"] = {"dial": result["dials"][low]}
            else:
                result["search"][f"{target}"] = {"dial": None, "missed": max(known.values())}
        if result["needs"] == "database":
            chosen["same"] = SAME
            result["search"]["same"] = {"dial": SAME}
        result["recall_by_dial"] = sorted((dial, value) for dial, value in known.items() if dial is not None)
        self._say(system, ", ".join(f"{name}: {result['dial']} {dial}" for name, dial in chosen.items()))
        return chosen

    @staticmethod
    def _note(cell: Result, answer: Result, truth: Truth) -> None:
        """Add one round's times to a cell of the results."""
        taken, found = answer["ms"], answer["found"]
        cell["recall"] = truth.recall(found)
        cell["rows"] = statistics.mean(map(len, found))
        cell["wrong"] = cell.get("wrong", 0) + truth.wrong(found)
        cell.setdefault("p50", []).append(statistics.median(taken))
        cell.setdefault("p95", []).append(statistics.quantiles(taken, n=20)[-1] if len(taken) > 1 else taken[0])
        cell.setdefault("qps", []).append(1e3 / statistics.mean(taken))
        cell.setdefault("answered", []).append(len(taken))

    def _search_filtered(self) -> None:
        queries = self._plan.filter_queries
        conditions = self._data.conditions()
        truths = [Truth(self._data, queries, condition.matching) for condition in conditions]
        for system in self._alive:
            self.results[system]["filtered"] = [
                {
                    "name": condition.name,
                    "field": condition.field,
                    "percent": condition.percent,
                    "correlated": condition.correlated,
                    "expected": truth.expected,
                }
                for condition, truth in zip(conditions, truths, strict=True)
                if self.results[system]["filters"]
            ]

        def measure(system: str, _: int) -> None:
            for cell, condition, truth in zip(self.results[system]["filtered"], conditions, truths, strict=False):
                answer = self._ask(system, None, queries, field=condition.field, value=condition.value)
                self._note(cell, answer, truth)

        self._in_turn("filtered", self._plan.rounds, measure)
