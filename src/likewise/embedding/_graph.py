"""An ONNX graph as it describes itself: its inputs, their types, and how many rows it takes at once. No file enters here.

The same model is exported under several names: ``input_ids`` or ``text``, ``pixel_values`` or ``image``, 32 bits or 64, any number of
rows or one. What a graph says of itself is taken, and what it lacks is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.errors import ModelNotAvailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Graph", "unit_rows"]

#: NumPy's names of the types of tensors that are fed.
_TYPES = {
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True, slots=True)
class Graph:
    """An ``InferenceSession``; ``model`` and ``file`` name it in errors."""

    session: Any
    model: str
    file: str

    def input(self, *names: str) -> str:
        """The name by which the graph takes something, the first of these that it has; ``ModelNotAvailable`` if it has none."""
        return self._one_of(names, [taken.name for taken in self.session.get_inputs()], "input")

    def has_input(self, name: str) -> bool:
        return any(taken.name == name for taken in self.session.get_inputs())

    def output(self, *names: str) -> str:
        """The name of an output, the first of these that there is, or the only one there is; ``ModelNotAvailable`` otherwise."""
        there = [given.name for given in self.session.get_outputs()]
        return there[0] if len(there) == 1 else self._one_of(names, there, "output")

    def fixed(self, name: str, axis: int) -> int | None:
        """The length of an input's axis if the graph was made for one length only, else None."""
        shape = next(taken.shape for taken in self.session.get_inputs() if taken.name == name)
        length = shape[axis] if axis < len(shape) else None
        return length if isinstance(length, int) and length > 0 else None

    def run(
        self, output: str, rows: Mapping[str, NDArray[Any]], whole: Mapping[str, NDArray[Any]] | None = None
    ) -> NDArray[np.float32]:
        """An output for these inputs, float32 of shape (rows, dimension).

        ``rows`` are cut along their first axis if the graph takes a fixed number at once, and the last part is filled up with its last row; what
        is in ``whole`` is given as it is. Whole numbers and fractions are converted to what the graph takes. ``ModelNotAvailable`` if it
        wants an input that is not given, or fails.
        """
        import numpy as np

        given = {**rows, **(whole or {})}
        types = {taken.name: taken.type for taken in self.session.get_inputs()}
        if types.keys() != given.keys():
            raise ModelNotAvailable(
                f"{self.file} of {self.model} takes the inputs {', '.join(types)}; expected {', '.join(given)}",
                model=self.model,
            )
        feeds = {
            name: values.astype(_TYPES.get(types[name], values.dtype), copy=False) for name, values in given.items()
        }
        count = len(next(iter(rows.values())))
        step = next((fixed for name in rows if (fixed := self.fixed(name, 0))), count)
        parts: list[NDArray[np.float32]] = []
        for start in range(0, count, step):
            part = dict(feeds)
            used = min(step, count - start)
            for name in rows:
                part[name] = feeds[name][start : start + step]
                if used < step:
                    part[name] = np.concatenate([part[name], np.repeat(part[name][-1:], step - used, axis=0)])
            try:
                result = self.session.run([output], part)[0]
            except Exception as error:
                raise ModelNotAvailable(
                    f"{self.file} of {self.model} cannot be run: {error}", model=self.model
                ) from error
            parts.append(np.asarray(result, np.float32)[:used])
        return np.concatenate(parts)

    def _one_of(self, names: Sequence[str], there: Sequence[str], what: str) -> str:
        for name in names:
            if name in there:
                return name
        raise ModelNotAvailable(
            f"{self.file} of {self.model} has no {what} called {' or '.join(names)}; it has {', '.join(there)}: it is not the graph that was expected",
            model=self.model,
        )


def unit_rows(rows: NDArray[np.float32], dimension: int, *, model: str) -> NDArray[np.float32]:
    """The first ``dimension`` numbers of each row, scaled to length 1; ``ModelNotAvailable`` if that cannot be."""
    import numpy as np

    if rows.ndim != 2 or rows.shape[1] < dimension:
        raise ModelNotAvailable(
            f"{model} gave an array of shape {rows.shape}; expected rows of {dimension} numbers", model=model
        )
    cut = rows[:, :dimension]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        raise ModelNotAvailable(
            f"{model} gave no direction for row {bad[0]}: its numbers are all 0, or not numbers; its weights may be damaged",
            model=model,
        )
    return np.ascontiguousarray(cut / lengths, dtype=np.float32)
