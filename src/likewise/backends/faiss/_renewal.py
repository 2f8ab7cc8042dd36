"""An index made anew beside the one that is searched, step by step: without what is dead, and with a graph if there are many vectors by now.

Both are in memory until the new one takes the old one's place. Searches go on meanwhile, and so do changes, which the new index takes at the end.
"""

from __future__ import annotations

import numpy as np

from likewise.backends.faiss._graph import Graph
from likewise.backends.faiss.index import GRAPH_FROM, VectorIndex
from likewise.metrics import Metric

__all__ = ["Renewal", "outdated"]

#: An index is made anew when so many of its vectors are dead, and at least a quarter.
_DEAD = 1_000


def outdated(index: VectorIndex) -> bool:
    """Whether an index should be made anew."""
    if index.graph is None:
        return len(index) >= GRAPH_FROM or index.dead_tail > max(_DEAD, index.slots.count // 4)
    return len(index) < GRAPH_FROM // 2 or index.dead_main > max(_DEAD, index.base // 4)


class Renewal:
    """One index on its way. ``step`` until it is done; then ``finished``, when nobody else reads or writes the old one."""

    def __init__(self, old: VectorIndex) -> None:
        self.old = old
        self._known = old.slots.count
        # In an order by chance, as in ``Graph.build``.
        self._places = np.random.default_rng(old.slots.count).permutation(np.flatnonzero(old.slots.rows >= 0))
        self._done = 0
        self._graph: Graph | None = None
        if len(self._places) >= GRAPH_FROM:
            self._graph = Graph(old.dimension, l2=old.metric is Metric.L2)
            self._graph.reserve(len(self._places))

    def step(self) -> bool:
        """Link some more vectors; whether there are more."""
        if self._graph is None:
            return False
        part = self._places[self._done : self._done + self._graph.pace()]
        self._graph.add_step(self.old.held_at(part))
        self._done += len(part)
        return self._done < len(self._places)

    def finished(self) -> VectorIndex:
        """The new index, with what has changed since the beginning."""
        old, new = self.old, VectorIndex(self.old.field)
        late = np.arange(self._known, old.slots.count)
        taken = np.concatenate((self._places, late))
        if self._graph is None:
            new.tail.append(old.held_at(taken))
        else:
            new.graph = self._graph
            new.base = new.first = len(self._places)
            new.tail.append(old.held_at(late))
        new.scaled = old.scaled.picked(taken)
        new.longest, new.uneven = old.longest, old.uneven
        new.take_slots(old.slots.rows[taken], old.zeros())
        return new
