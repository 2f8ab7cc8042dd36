"""CLIP ViT-B/32: texts and pictures in one space of 512 dimensions, with OpenAI's weights or with OpenCLIP's of LAION-2B.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021); Cherti et al., "Reproducible scaling laws for
contrastive language-image learning" (2022). On ONNX Runtime, or on PyTorch, which ``_clip_torch`` holds.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from likewise.abc.embedder import Embedder, ImageInput, ModelCard
from likewise.calibration import CLIP_VIT_B32
from likewise.embedding._cutting import Cutter
from likewise.embedding._graph import Graph, unit_rows
from likewise.embedding._hub import Loading, ModelFolder, Source, find_model
from likewise.embedding._onnx import open_session, run_by_length
from likewise.embedding._pixels import Preprocessing
from likewise.embedding._tokens import TextTokenizer
from likewise.embedding.images import decode_images
from likewise.embedding.texts import check_texts
from likewise.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ClipEmbedder", "Towers"]

DIMENSION = 512
MAX_TOKENS = 77
SIDE = 224
TEXT_BATCH = 32
IMAGE_BATCH = 8


@dataclass(frozen=True, slots=True)
class _Weights:
    """Where one set of weights is, for each runtime, and what their reference does to a picture."""

    name: str
    onnx: Source
    #: Of ``onnx``: the tower for texts, the tower for pictures, the tokenizer.
    text: str
    image: str
    tokenizer: str
    #: Its files are the weights and the tokenizer, in this order.
    torch: Source
    #: The architecture's name in open_clip.
    architecture: str
    preprocessing: Preprocessing
    description: str
    notice: str


_NOTICE = "Trained on pictures and captions from the web, English for the most part, and with their prejudices. "

WEIGHTS = {
    "openai": _Weights(
        name="clip",
        onnx=Source(
            "Xenova/clip-vit-base-patch32",
            "d15189d7028b43f1d3e65039190477f6af591c2a",
            ("onnx/text_model.onnx", "onnx/vision_model.onnx", "tokenizer.json"),
            {
                "onnx/text_model.onnx": "3f6571f5bad13a97c469c1622e1cfc4d9aef78b79fdbfcff804ca357bfada8cc",
                "onnx/vision_model.onnx": "fd6e1402a588279d1723c7534d4bcba5bc0b14b47dfab0e46f8c47b8270d7d40",
                "tokenizer.json": "f7f3b7af117d467b58374797691a6438d3e6b9e9cef800dfd5dced7f697a90cd",
            },
        ),
        text="onnx/text_model.onnx",
        image="onnx/vision_model.onnx",
        tokenizer="tokenizer.json",
        torch=Source(
            "timm/vit_base_patch32_clip_224.openai",
            "ab5b8ef490e86faa07d3523926b842c765de1de5",
            ("open_clip_model.safetensors", "tokenizer.json"),
        ),
        architecture="ViT-B-32-quickgelu",
        preprocessing=Preprocessing(SIDE, "floor"),
        description="CLIP ViT-B/32 with OpenAI's weights, for English texts and pictures",
        notice=_NOTICE + "OpenAI's model card asks that any use be tested for its own purpose first.",
    ),
    "laion2b": _Weights(
        name="clip:laion2b",
        onnx=Source(
            "immich-app/ViT-B-32__laion2b-s34b-b79k",
            "19a057a0fb927cf239541300e74237cd56c7ffe2",
            ("textual/model.onnx", "visual/model.onnx", "textual/tokenizer.json"),
            {
                "textual/model.onnx": "48c25be37b352398f2533c9426dab6f9340535e14e46f884cc894236a5060722",
                "visual/model.onnx": "b9ce24b91a8c62ef8d40ea786051709c93140104cbf2b6b4a2cc270df3838f9c",
            },
        ),
        text="textual/model.onnx",
        image="visual/model.onnx",
        tokenizer="textual/tokenizer.json",
        torch=Source(
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            "main",
            ("open_clip_model.safetensors", "tokenizer.json"),
            {"open_clip_model.safetensors": "ac4f8c4b88af6d963118cbf40ad93176d092abbedfcb752601ae1866352656e6"},
        ),
        architecture="ViT-B-32",
        preprocessing=Preprocessing(SIDE, "round"),
        description="CLIP ViT-B/32 with OpenCLIP's weights of LAION-2B (s34B-b79K), for English texts and pictures",
        notice=_NOTICE + "Its model card asks that any use be tested for its own purpose first.",
    ),
}


class Towers(Protocol):
    """The two halves of a model on some runtime; rows of any length come out."""

    @abstractmethod
    def texts(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of tokens in rows of one length."""

    @abstractmethod
    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of pixels of shape (rows, 3, side, side)."""

    @abstractmethod
    def warm_up(self) -> None:
        """Load both now."""


class ClipEmbedder(Embedder):
    """Texts and pictures in one 512-d space, unit vectors. Texts have at most 77 tokens; pictures are seen as their middle square.

    ``overlong`` says what becomes of a longer text: its beginning is embedded (``"cut"``; ``cut_texts`` counts them, and the log tells of
    them), or ``InvalidArgument`` names its position (``"refused"``). ``weights`` are ``"openai"`` or ``"laion2b"`` (OpenCLIP's, better on most benchmarks). ``loading`` says where they are looked for, and
    ``revision`` names another commit or branch of their repository. ``runtime`` is ``"onnx"``, or ``"torch"``, which needs
    ``pip install 'likewise[clip-torch]'`` and other files of the same weights, and takes a GPU if PyTorch sees one; the vectors are the
    same up to rounding.
    """

    def __init__(
        self,
        weights: Literal["openai", "laion2b"] = "openai",
        *,
        loading: Loading | None = None,
        revision: str | None = None,
        runtime: Literal["onnx", "torch"] = "onnx",
        overlong: Literal["cut", "refused"] = "cut",
    ) -> None:
        if weights not in WEIGHTS:
            raise InvalidArgument(f"there are no weights {weights!r:.80}; choose one of: {', '.join(WEIGHTS)}")
        if runtime not in ("onnx", "torch"):
            raise InvalidArgument(f"there is no runtime {runtime!r:.80}; choose 'onnx' or 'torch'")
        self._weights = WEIGHTS[weights]
        self._runtime = runtime
        self._loading = loading or Loading()
        self._source = (self._weights.onnx if runtime == "onnx" else self._weights.torch).at(revision)
        self._lock = threading.Lock()
        self._loaded: tuple[TextTokenizer, Towers] | None = None
        self._card = ModelCard(
            name=self._weights.name,
            dimension=DIMENSION,
            modalities=("text", "image"),
            revision=self._source.revision,
            max_tokens=MAX_TOKENS,
            licence="MIT",
            description=self._weights.description,
            notice=self._weights.notice,
            overlong=overlong,
            calibration=CLIP_VIT_B32 if weights == "openai" else None,
        )
        self._cutter = Cutter(self._card)

    @classmethod
    def from_variant(cls, variant: str, *, loading: Loading | None = None) -> ClipEmbedder:
        """``clip``, or ``clip:laion2b``."""
        if variant not in ("", "laion2b"):
            raise ValueError("there are two: 'clip' and 'clip:laion2b'")
        return cls("laion2b" if variant else "openai", loading=loading)

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
        self._load()[1].warm_up()

    def close(self) -> None:
        with self._lock:
            self._loaded = None

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        tokenizer, towers = self._load()
        encoded = self._cutter.rows(tokenizer, texts)

        def run(places: list[int]) -> NDArray[np.float32]:
            rows = towers.texts(np.array([encoded[i] for i in places], np.int64))
            return unit_rows(rows, DIMENSION, model=self._card.name)

        return run_by_length([len(ids) for ids in encoded], TEXT_BATCH, run, dimension=DIMENSION)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text in its order, special ones included, by the model's own vocabulary; nothing is cut. Loads the model."""
        texts = check_texts(texts)
        return self._load()[0].count(texts)

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        import numpy as np

        preprocessing = self._weights.preprocessing
        decoded = decode_images(images, least_side=preprocessing.least_side)
        result = np.empty((len(images), DIMENSION), np.float32)
        towers = self._load()[1]
        for start, pixels in preprocessing.batches(decoded, IMAGE_BATCH):
            rows = towers.images(pixels)
            result[start : start + len(pixels)] = unit_rows(rows, DIMENSION, model=self._card.name)
        return result

    def _load(self) -> tuple[TextTokenizer, Towers]:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._torch() if self._runtime == "torch" else self._onnx()
            return self._loaded

    def _onnx(self) -> tuple[TextTokenizer, Towers]:
        folder = find_model(self._card.name, self._source, self._loading)
        tokenizer = TextTokenizer(folder.path(self._weights.tokenizer), model=self._card.name)
        return tokenizer, _OnnxTowers(folder, self._weights, self._loading.threads)

    def _torch(self) -> tuple[TextTokenizer, Towers]:
        from likewise.embedding._clip_torch import TorchTowers, check_installed

        # Before anything is fetched: without the package the weights are of no use.
        check_installed()
        folder = find_model(self._card.name, self._source, self._loading)
        weights, tokenizer = (folder.path(file) for file in self._source.files)
        towers = TorchTowers(weights, self._weights.architecture, tokens=MAX_TOKENS, model=self._card.name)
        return TextTokenizer(tokenizer, model=self._card.name), towers


class _OnnxTowers:
    """Each tower is opened when it is first needed: a program that only searches by text never loads the one for pictures."""

    def __init__(self, folder: ModelFolder, weights: _Weights, threads: int | None) -> None:
        self._folder = folder
        self._weights = weights
        self._threads = threads
        self._lock = threading.Lock()
        self._graphs: dict[str, Graph] = {}

    def warm_up(self) -> None:
        self._graph(self._weights.text)
        self._graph(self._weights.image)

    def texts(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """What follows a text's last token changes nothing: the tower looks only backwards, from the first end that it meets."""
        import numpy as np

        graph = self._graph(self._weights.text)
        name = graph.input("input_ids", "text")
        rows = np.zeros((len(ids), graph.fixed(name, 1) or ids.shape[1]), np.int64)
        rows[:, : ids.shape[1]] = ids
        given = {name: rows}
        if graph.has_input("attention_mask"):
            given["attention_mask"] = (np.arange(rows.shape[1]) < ids.shape[1]).astype(np.int64) + np.zeros_like(rows)
        return graph.run(graph.output("text_embeds", "text_embedding", "embedding"), given)

    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        graph = self._graph(self._weights.image)
        output = graph.output("image_embeds", "image_embedding", "embedding")
        return graph.run(output, {graph.input("pixel_values", "image"): pixels})

    def _graph(self, file: str) -> Graph:
        with self._lock:
            if file not in self._graphs:
                name = self._weights.name
                session = open_session(self._folder.path(file), threads=self._threads, model=name)
                self._graphs[file] = Graph(session, name, file)
            return self._graphs[file]
