"""JinaCLIP v2: texts of many languages and pictures in one space of 1,024 dimensions, which may be cut short (Matryoshka).

Koukounas et al., "jina-clip-v2: Multilingual Multimodal Embeddings for Text and Images" (2024). On ONNX Runtime.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from likewise.abc.embedder import Embedder, ImageInput, ModelCard
from likewise.embedding._cutting import Cutter
from likewise.embedding._graph import Graph, unit_rows
from likewise.embedding._hub import Loading, Source, find_model
from likewise.embedding._onnx import open_session, run_by_length
from likewise.embedding._pixels import Preprocessing
from likewise.embedding._tokens import TextTokenizer
from likewise.embedding.images import decode_images
from likewise.embedding.texts import check_texts
from likewise.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["JinaClipEmbedder"]

DIMENSION = 1024
LEAST_DIMENSION = 64
MAX_TOKENS = 8192
TEXT_BATCH = 8
#: A picture has 1,297 tokens here; more at once takes memory and saves no time.
IMAGE_BATCH = 2
PREPROCESSING = Preprocessing(512, "round")
GRAPH = "onnx/model.onnx"
#: The graph's weights are too large for one file; ONNX Runtime finds the second beside the first.
SOURCE = Source(
    "jinaai/jina-clip-v2",
    "e10d47f5691d0454a0fb5d13f46f2199b74cb436",
    (GRAPH, "onnx/model.onnx_data", "tokenizer.json"),
)
#: An empty text in XLM-RoBERTa's tokens: the beginning and the end.
_EMPTY = (0, 2)


class JinaClipEmbedder(Embedder):
    """Texts (up to 8,192 tokens, 89 languages) and pictures in one space, unit vectors. Licence: not for commercial use.

    ``dimension`` is from 64 to 1,024: vectors are cut to it and scaled to length 1 again, which the model was trained for. Pictures are seen
    as their middle square, 512 pixels wide. ``loading`` says where the weights are looked for, and ``revision`` names another commit or
    branch of their repository. ``overlong`` says what becomes of a longer text: its beginning is embedded (``"cut"``; ``cut_texts`` counts
    them, and the log tells of them), or ``InvalidArgument`` names its position (``"refused"``).
    """

    def __init__(
        self,
        dimension: int = DIMENSION,
        *,
        loading: Loading | None = None,
        revision: str | None = None,
        overlong: Literal["cut", "refused"] = "cut",
    ) -> None:
        if not LEAST_DIMENSION <= dimension <= DIMENSION:
            raise InvalidArgument(f"the dimension is {dimension}; it must be from {LEAST_DIMENSION} to {DIMENSION:,}")
        self._loading = loading or Loading()
        self._source = SOURCE.at(revision)
        self._lock = threading.Lock()
        self._loaded: tuple[TextTokenizer, Graph] | None = None
        self._card = ModelCard(
            name="jina-clip-v2" if dimension == DIMENSION else f"jina-clip-v2@{dimension}",
            dimension=dimension,
            modalities=("text", "image"),
            revision=self._source.revision,
            max_tokens=MAX_TOKENS,
            licence="CC-BY-NC-4.0",
            description="JinaCLIP v2 for texts of 89 languages and pictures",
            notice="Its licence allows non-commercial use only; for anything else Jina AI sells one.",
            query_prompt="Represent the query for retrieving evidence documents: ",
            overlong=overlong,
        )
        self._cutter = Cutter(self._card)

    @classmethod
    def from_variant(cls, variant: str, *, loading: Loading | None = None) -> JinaClipEmbedder:
        """``jina-clip-v2``, or ``jina-clip-v2@512`` for a smaller dimension."""
        at, size = variant[:1], variant[1:]
        if variant and (at != "@" or not size.isdecimal()):
            raise ValueError("what follows the name is a dimension, as in 'jina-clip-v2@512'")
        return cls(int(size) if variant else DIMENSION, loading=loading)

    @property
    def card(self) -> ModelCard:
        return self._card

    @property
    def source(self) -> Source:
        """Where its files come from."""
        return self._source

    @property
    def loading(self) -> Loading:
        """How they are found."""
        return self._loading

    @property
    def cut_texts(self) -> int:
        """How many texts were cut so far because they were too long."""
        return self._cutter.cut_texts

    def warm_up(self) -> None:
        self._load()

    def close(self) -> None:
        with self._lock:
            self._loaded = None

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        tokenizer, graph = self._load()
        encoded = self._cutter.rows(tokenizer, texts)
        # One graph holds both towers and wants both inputs: no picture at all costs nothing.
        nothing = np.zeros((graph.fixed("pixel_values", 0) or 0, 3, PREPROCESSING.side, PREPROCESSING.side), np.float32)

        def run(places: list[int]) -> NDArray[np.float32]:
            rows = {"input_ids": np.array([encoded[i] for i in places], np.int64)}
            if graph.has_input("attention_mask"):
                rows["attention_mask"] = np.ones_like(rows["input_ids"])
            output = graph.output("l2norm_text_embeddings", "text_embeddings")
            found = graph.run(output, rows, {"pixel_values": nothing})
            return unit_rows(found, self._card.dimension, model=self._card.name)

        return run_by_length([len(ids) for ids in encoded], TEXT_BATCH, run, dimension=self._card.dimension)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text in its order, special ones included, by the model's own vocabulary; nothing is cut. Loads the model."""
        texts = check_texts(texts)
        return self._load()[0].count(texts)

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        import numpy as np

        decoded = decode_images(images, least_side=PREPROCESSING.least_side)
        result = np.empty((len(images), self._card.dimension), np.float32)
        graph = self._load()[1]
        output = graph.output("l2norm_image_embeddings", "image_embeddings")
        for start, pixels in PREPROCESSING.batches(decoded, IMAGE_BATCH):
            # The text tower cannot do without rows, so each picture comes with an empty text.
            rows: dict[str, NDArray[Any]] = {
                "pixel_values": pixels,
                "input_ids": np.tile(np.array(_EMPTY, np.int64), (len(pixels), 1)),
            }
            if graph.has_input("attention_mask"):
                rows["attention_mask"] = np.ones_like(rows["input_ids"])
            found = graph.run(output, rows)
            result[start : start + len(pixels)] = unit_rows(found, self._card.dimension, model=self._card.name)
        return result

    def _load(self) -> tuple[TextTokenizer, Graph]:
        with self._lock:
            if self._loaded is None:
                name = self._card.name
                folder = find_model(name, self._source, self._loading)
                tokenizer = TextTokenizer(folder.path("tokenizer.json"), model=name)
                session = open_session(folder.path(GRAPH), threads=self._loading.threads, model=name)
                self._loaded = tokenizer, Graph(session, name, GRAPH)
            return self._loaded
