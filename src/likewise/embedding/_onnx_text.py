"""Text encoders of the BERT kind on ONNX Runtime: tokens in, one unit vector for each text out.

What is here is the same for every family: cutting or pooling what is too long, batches of near lengths, the mean or the first of the
token vectors. A family says where its files are and what its card is.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from likewise.abc.embedder import Embedder, ModelCard
from likewise.embedding._hub import Loading, Source, find_model
from likewise.embedding._onnx import by_length, open_session
from likewise.embedding._tokens import TextTokenizer
from likewise.embedding.texts import check_texts
from likewise.errors import InvalidArgument, ModelNotAvailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OnnxTextEmbedder", "Overlong", "TextModel", "Window"]

_log = logging.getLogger("likewise.embedding")

#: What is done with a text that has more tokens than the model takes; see ``OnnxTextEmbedder``.
Overlong: TypeAlias = Literal["cut", "refused", "pooled"]

#: Texts that are tokenised at a time, and run at a time. Lengths may differ by a tenth within a batch.
TOGETHER, BATCH, SPREAD = 512, 8, 0.1
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
#: The names that exporters give to the token vectors, and to the vector of the text where the graph makes it.
_HIDDEN = ("last_hidden_state", "token_embeddings", "hidden_states")
_DENSE = ("dense_vecs", "dense_embeddings", "sentence_embedding", "text_embeds", "pooler_output")


@dataclass(frozen=True, slots=True)
class TextModel:
    """What a family knows of a model: its card, its files, and how its token vectors become one."""

    card: ModelCard
    source: Source
    pooling: Literal["mean", "cls"]
    graph: str = "onnx/model.onnx"
    vocabulary: str = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a text that goes through the model at once: the text's place, and its ids without special tokens."""

    text: int
    ids: array[int]


@dataclass(frozen=True, slots=True)
class _Loaded:
    tokenizer: TextTokenizer
    session: Any
    inputs: tuple[str, ...]
    #: The output that is read, and whether it holds a vector for each token, which is still to be pooled.
    output: str
    by_token: bool
    outputs: tuple[str, ...]


class OnnxTextEmbedder(Embedder):
    """Texts to unit vectors, by a model in ONNX form.

    ``loading`` says where its files are; without it they are looked for in the user's cache, and fetched. ``revision`` is a commit, branch or tag
    of its repository other than the one that was tried; its checksums are then remembered at the first load. ``overlong`` says what
    becomes of a text with more than ``card.max_tokens`` tokens:

    - ``"cut"``: what comes after them has no part in the vector. ``cut_texts`` counts such texts, and the log tells of them.
    - ``"refused"``: ``InvalidArgument`` names the first such text by its position.
    - ``"pooled"``: the whole text goes through the model in windows of so many tokens; the vector is the direction of the mean of their unit
      vectors, weighted by their tokens. A megabyte of text is then a thousand windows.

    An empty text is what the model makes of no words; it has a vector too. Any number of threads may share an embedder.
    """

    def __init__(
        self,
        model: TextModel,
        *,
        loading: Loading | None = None,
        revision: str | None = None,
        overlong: Overlong = "cut",
    ) -> None:
        if overlong not in ("cut", "refused", "pooled"):
            raise InvalidArgument(f"overlong is {overlong!r}; it is 'cut', 'refused' or 'pooled'")
        self._model = model
        self._source = model.source.at(revision)
        self._loading = loading or Loading()
        self._card = replace(model.card, revision=self._source.revision, overlong=overlong)
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._cut = 0

    @property
    def card(self) -> ModelCard:
        return self._card

    @property
    def source(self) -> Source:
        """Where the model's files come from."""
        return self._source

    @property
    def loading(self) -> Loading:
        """How the model's files are found."""
        return self._loading

    @property
    def cut_texts(self) -> int:
        """How many texts were cut so far because they were too long."""
        return self._cut

    def warm_up(self) -> None:
        self._load()

    def close(self) -> None:
        with self._lock:
            self._loaded = None

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 of shape (len(texts), dimension), unit vectors, rows in the order given.

        ``InvalidArgument`` names the position of what is not text, or too long where that is refused. ``ModelNotAvailable`` if the model
        cannot be loaded, or gives something else than its card says.
        """
        import numpy as np

        texts = check_texts(texts)
        result = np.zeros((len(texts), self._card.dimension), np.float32)
        if not texts:
            return result
        loaded = self._load()
        for windows in self._windows(loaded, texts):
            for places in by_length([len(window.ids) for window in windows], BATCH, spread=SPREAD):
                batch = [windows[i] for i in places]
                for window, vector in zip(batch, self._vectors(loaded, batch), strict=True):
                    result[window.text] += vector * np.float32(max(1, len(window.ids)))
        return _unit(result)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text in its order, special ones included, by the model's own vocabulary; nothing is cut. Loads the model."""
        texts = check_texts(texts)
        return self._load().tokenizer.count(texts)

    # --- running ----------------------------------------------------------------------------------------------------------------

    def _windows(self, loaded: _Loaded, texts: Sequence[str]) -> Iterator[list[Window]]:
        """The texts in windows that the model can take, those of some texts at a time. Each text has one at least."""
        assert self._card.max_tokens is not None
        most = self._card.max_tokens - len(loaded.tokenizer.head) - len(loaded.tokenizer.tail)
        overlong = self._card.overlong
        for start in range(0, len(texts), TOGETHER):
            some = texts[start : start + TOGETHER]
            windows: list[Window] = []
            cut = 0
            for place, ids in enumerate(
                loaded.tokenizer.encode(some, most=None if overlong == "pooled" else most), start
            ):
                if len(ids) <= most:
                    windows.append(Window(place, ids))
                elif overlong == "pooled":
                    windows.extend(Window(place, ids[at : at + most]) for at in range(0, len(ids), most))
                elif overlong == "cut":
                    windows.append(Window(place, ids[:most]))
                    cut += 1
                else:
                    raise InvalidArgument(
                        f"text {place} has more than the {self._card.max_tokens:,} tokens that {self._card.name} takes; cut it into parts, or "
                        "make the embedder with overlong='cut' or overlong='pooled'"
                    )
            if cut:
                self._report(cut, len(some))
            yield windows

    def _report(self, cut: int, of: int) -> None:
        with self._lock:
            first = not self._cut
            self._cut += cut
        # Once it is a warning; a long load is not to be drowned in them.
        _log.log(
            logging.WARNING if first else logging.INFO,
            "%d of %d texts have more than the %d tokens of %s, and were cut",
            cut,
            of,
            self._card.max_tokens,
            self._card.name,
            extra={"model": self._card.name, "texts": of, "cut": cut},
        )

    def _vectors(self, loaded: _Loaded, windows: Sequence[Window]) -> NDArray[np.float32]:
        """The unit vectors of windows: float32 of shape (len(windows), dimension)."""
        import numpy as np

        output, mask = self._run(loaded, loaded.output, windows)
        if loaded.by_token:
            if self._model.pooling == "cls":
                output = output[:, 0]
            else:
                weights = mask.astype(np.float32)[:, :, None]
                output = (output * weights).sum(axis=1) / weights.sum(axis=1)
        wanted = (len(windows), self._card.dimension)
        if output.shape != wanted:
            raise ModelNotAvailable(
                f"{self._card.name} gave vectors of shape {output.shape}, and its card says {wanted}: the file is of another model",
                model=self._card.name,
            )
        if not np.isfinite(output).all():
            raise ModelNotAvailable(
                f"{self._card.name} gave numbers that are not finite: its weights are damaged; fetch it again with: likewise models pull "
                f"{self._card.name}",
                model=self._card.name,
            )
        return _unit(output)

    def _run(
        self, loaded: _Loaded, output: str, windows: Sequence[Window]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """One output for windows in one batch, and the mask: int64 of shape (len(windows), tokens), 1 where a token is, 0 where none."""
        import numpy as np

        head, tail = loaded.tokenizer.head, loaded.tokenizer.tail
        length = max(1, len(head) + max(len(window.ids) for window in windows) + len(tail))
        ids = np.full((len(windows), length), loaded.tokenizer.pad, np.int64)
        mask = np.zeros_like(ids)
        for row, window in enumerate(windows):
            # An empty text, where a vocabulary puts nothing around it, is still one token.
            tokens = [*head, *window.ids, *tail] or [loaded.tokenizer.pad]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        try:
            (values,) = loaded.session.run([output], {name: given[name] for name in loaded.inputs})
        except Exception as error:
            raise ModelNotAvailable(
                f"{self._card.name} failed on {len(windows)} texts of {length} tokens: {type(error).__name__}: {str(error)[:300]}",
                model=self._card.name,
            ) from error
        return np.asarray(values, np.float32), mask

    # --- loading ----------------------------------------------------------------------------------------------------------------

    def _load(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                name = self._card.name
                folder = find_model(name, self._source, self._loading)
                tokenizer = TextTokenizer(folder.path(self._model.vocabulary), model=name)
                path = folder.path(self._model.graph)
                session = open_session(path, threads=self._loading.threads, model=name)
                self._loaded = self._understood(path, tokenizer, session)
            return self._loaded

    def _understood(self, path: Path, tokenizer: TextTokenizer, session: Any) -> _Loaded:
        """What the file's inputs and outputs are for; ``ModelNotAvailable`` if it is not a text encoder of this dimension."""
        name = self._card.name
        inputs = tuple(i.name for i in session.get_inputs())
        outputs = {o.name: o.shape for o in session.get_outputs()}
        if not {"input_ids"} <= set(inputs) <= _INPUTS:
            raise ModelNotAvailable(
                f"{path} of {name} wants the inputs {', '.join(inputs)}; a text encoder wants input_ids, and may want attention_mask and "
                "token_type_ids",
                model=name,
            )
        output = next((o for o in (*_HIDDEN, *_DENSE) if o in outputs), None)
        if output is None and len(outputs) == 1:
            output = next(iter(outputs))
        if output is None or len(outputs[output]) not in (2, 3):
            raise ModelNotAvailable(
                f"{path} of {name} has the outputs {', '.join(outputs)}; none of them is known to hold token vectors ({', '.join(_HIDDEN)})",
                model=name,
            )
        width = outputs[output][-1]
        if isinstance(width, int) and width != self._card.dimension:
            raise ModelNotAvailable(
                f"{path} gives vectors of dimension {width}, and the card of {name} says {self._card.dimension}: it is the file of "
                "another model",
                model=name,
            )
        return _Loaded(tokenizer, session, inputs, output, len(outputs[output]) == 3, tuple(outputs))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)), np.float32)
