"""Chooses the statements that say most about a question, by what a model makes of them.

Statements are chosen one after the other by maximal marginal relevance (Carbonell and Goldstein, 1998). ``docs/howto/ask.md`` has what was measured.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.abc.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BACKGROUND", "Question", "Statement", "choose"]

#: Statements that have nothing to do with each other, of many kinds: what a model says of two of them is what it says of a question and of what does
#: not answer it. Models differ in that by more than what answers differs from what does not.
BACKGROUND = (
    "The library opens at nine and closes at six on weekdays.",
    "Her grandmother kept bees behind the old stone house.",
    "Please send the signed form to our office by Friday.",
    "Water boils at a lower temperature high in the mountains.",
    "The committee has not yet decided who will lead the project.",
    "You can change the colour of the text in the settings menu.",
    "Three ships left the harbour before the storm reached the coast.",
    "Prices rose by two per cent in the second quarter of the year.",
    "Mix the flour with the butter and let the dough rest for an hour.",
    "The patient was given the medicine twice a day after meals.",
    "If the device does not start, charge the battery for an hour.",
    "Employees receive thirty days of paid leave each year.",
    "The river divides the town into an older and a newer part.",
    "A contract may be ended by either party with a month's notice.",
    "The team scored twice in the last ten minutes of the match.",
    "Light from the nearest star takes four years to reach us.",
    "Customers who order before noon are served on the same day.",
    "The painting was stolen from the museum and found in a barn.",
    "Click the button in the upper corner to open a new window.",
    "Most of the soldiers had never seen the sea before.",
    "The engine needs new oil after ten thousand kilometres.",
    "Children under twelve travel free of charge with an adult.",
    "The function returns an error if the file cannot be read.",
    "He closed the door quietly and walked down the empty street.",
    "Your account is protected by a password of your own choice.",
    "Wolves live in packs and hunt together over large areas.",
    "The tax is due at the end of the month that follows the sale.",
    "She wrote the last chapter of the novel in a single night.",
    "Our address and telephone number are on the back of the card.",
    "The bridge was closed for repairs during the whole summer.",
    "Select the items that you need and add them to the list.",
    "The king signed the treaty and the war came to an end.",
)


#: An answer's cosine stands at least so many standard deviations above the mean of statements that have nothing to do with each other.
LEAST_STANDING = 4.0
#: The statement's part in the mean of its own cosine and its passage's: a passage about many things says one of them in a sentence.
OF_STATEMENT = 0.75
#: A second statement is to stand at least so high, as a part of the first one's height.
LEAST_OF_BEST = 0.75
#: How much the nearness to the question counts against the nearness to what was chosen before.
RELEVANCE = 0.7
#: Two statements with a greater cosine say the same.
SAME = 0.9

#: What each model says of the background, by the embedder's ``id``: mean and standard deviation. It goes when the embedder does.
_backgrounds: dict[int, tuple[float, float]] = {}


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, and the place of its passage among those found."""

    text: str
    passage: int


@dataclass(frozen=True, slots=True)
class Question:
    """The vector of a question, of shape (dimension,), and those of the passages found, of shape (passages, dimension)."""

    vector: NDArray[np.floating[Any]]
    passages: NDArray[np.floating[Any]]


def choose(
    embedder: Embedder, question: Question, statements: Sequence[Statement], *, most: int, judge: bool
) -> list[Statement]:
    """At most so many of the statements, the most relevant first; none where none says enough about the question.

    Relevance is the weighted mean of two cosines to the question: the statement's and its passage's. With ``judge`` a statement is left out unless it is
    more relevant than chance would have it, by the model's own measure. Blocks: the model embeds the statements.
    """
    import numpy as np

    if not statements:
        return []
    vectors = _units(embedder.embed_passages([statement.text for statement in statements]))
    query = _units(question.vector[np.newaxis])[0]
    places = np.array([statement.passage for statement in statements])
    relevance = OF_STATEMENT * (vectors @ query) + (1 - OF_STATEMENT) * (_units(question.passages) @ query)[places]
    mean, spread = _background(embedder)
    highest = float(relevance.max())
    least = highest - (1 - LEAST_OF_BEST) * abs(highest - mean)
    if judge:
        least = max(least, mean + LEAST_STANDING * spread)
    left = relevance >= least
    # The cosine of each statement to the nearest of those chosen.
    nearest = np.full(len(statements), -1.0)
    chosen: list[int] = []
    while len(chosen) < most and left.any():
        gain = np.where(left, RELEVANCE * relevance - (1 - RELEVANCE) * nearest, -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        nearest = np.maximum(nearest, vectors @ vectors[best])
        left &= nearest <= SAME
        # Whatever the model says of it.
        left[best] = False
    return [statements[place] for place in sorted(chosen, key=lambda place: (-relevance[place], place))]


def _background(embedder: Embedder) -> tuple[float, float]:
    """Mean and standard deviation of the cosines between statements that have nothing to do with each other; asked once of each model."""
    import numpy as np

    found = _backgrounds.get(id(embedder))
    if found is None:
        cosines = _units(embedder.embed_queries(BACKGROUND)) @ _units(embedder.embed_passages(BACKGROUND)).T
        apart = cosines[~np.eye(len(BACKGROUND), dtype=bool)]
        found = _backgrounds[id(embedder)] = float(apart.mean()), float(apart.std())
        weakref.finalize(embedder, _backgrounds.pop, id(embedder), None).atexit = False
    return found


def _units(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The rows at length 1; zeros stay."""
    import numpy as np

    exact = np.asarray(rows, np.float64)
    return np.asarray(exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12))
