"""The model that is shipped: a small text-image encoder on ONNX Runtime, so that the first search needs no download.

Text: all-MiniLM-L6-v2 (int8). Pictures: EfficientNet-Lite0 with a head into the same space. See ``models/mini/NOTICE``.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from likewise.abc.embedder import Embedder, ImageInput, ModelCard
from likewise.calibration import MINI
from likewise.embedding.images import decode_images
from likewise.embedding.texts import check_texts
from likewise.errors import InvalidArgument, ModelNotAvailable

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

__all__ = ["MiniEmbedder"]

DIMENSION = 384
MAX_TOKENS = 128
#: Small batches of texts of equal length: with dynamic int8 quantisation anything else is slower, and padding changes the numbers.
BATCH = 8
SIDE = 224
_NOTICE = (
    "Small and shipped offline; not CLIP, and much weaker. The picture head was trained on Flickr8k photographs, which are for research "
    "and non-commercial use; 'mini:conse' has seen none of them."
)


class MiniEmbedder(Embedder):
    """Texts and pictures in one 384-d space, unit vectors. Texts are cut after 128 tokens.

    ``head`` chooses the picture vectors: ``image_embeds`` (better), or ``conse_embeds``, whose making involved no training
    photographs. ``directory`` holds the model's files, those of the package unless given; ``threads`` are ONNX Runtime's, as many as there
    are processors, at most four, unless given.
    """

    def __init__(
        self,
        *,
        head: Literal["image_embeds", "conse_embeds"] = "image_embeds",
        directory: Path | None = None,
        threads: int | None = None,
    ) -> None:
        self._head = head
        self._directory = directory or Path(__file__).parent / "models" / "mini"
        self._threads = threads or min(4, os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._text: tuple[Any, Any] | None = None
        self._counting: Any = None
        self._image: Any = None
        self._sums: dict[str, str] | None = None
        self._card = ModelCard(
            name="mini" if head == "image_embeds" else "mini:conse",
            dimension=DIMENSION,
            modalities=("text", "image"),
            max_tokens=MAX_TOKENS,
            licence="Apache-2.0",
            description="all-MiniLM-L6-v2 for text, EfficientNet-Lite0 with a head into its space for pictures",
            notice=_NOTICE,
            calibration=MINI if head == "image_embeds" else None,
        )

    @classmethod
    def from_variant(cls, variant: str) -> MiniEmbedder:
        """``mini``, or ``mini:conse``."""
        if variant not in ("", "conse"):
            raise ValueError("there are two: 'mini' and 'mini:conse'")
        return cls(head="conse_embeds" if variant else "image_embeds")

    @property
    def card(self) -> ModelCard:
        return self._card

    def warm_up(self) -> None:
        self._text_model()
        self._image_model()

    def close(self) -> None:
        with self._lock:
            self._text = self._image = self._counting = None

    # --- texts ------------------------------------------------------------------------------------------------------------------

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        texts = check_texts(texts)
        result = np.empty((len(texts), DIMENSION), np.float32)
        tokenizer, session = self._text_model()
        encoded = tokenizer.encode_batch(list(texts)) if texts else []
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
        start = 0
        while start < len(order):
            length = len(encoded[order[start]].ids)
            stop = start
            while stop < len(order) and stop - start < BATCH and len(encoded[order[stop]].ids) == length:
                stop += 1
            places = order[start:stop]
            inputs = {
                "input_ids": np.array([encoded[i].ids for i in places], np.int64),
                "attention_mask": np.array([encoded[i].attention_mask for i in places], np.int64),
                "token_type_ids": np.array([encoded[i].type_ids for i in places], np.int64),
            }
            result[places] = session.run(["text_embeds"], inputs)[0]
            start = stop
        return result

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text in its order, the two special ones included, by the model's own vocabulary; nothing is cut."""
        texts = check_texts(texts)
        with self._lock:
            if self._counting is None:
                from tokenizers import Tokenizer

                # Another one than that of the model, which cuts.
                tokenizer = Tokenizer.from_str(self._read("tokenizer.json").decode("utf-8"))
                tokenizer.no_padding()
                tokenizer.no_truncation()
                self._counting = tokenizer
            tokenizer = self._counting
        return [len(encoded.ids) for encoded in tokenizer.encode_batch(list(texts))] if texts else []

    def _text_model(self) -> tuple[Any, Any]:
        with self._lock:
            if self._text is None:
                from tokenizers import Tokenizer

                tokenizer = Tokenizer.from_str(self._read("tokenizer.json").decode("utf-8"))
                tokenizer.no_padding()
                tokenizer.enable_truncation(MAX_TOKENS)
                self._text = (tokenizer, self._session("text_encoder.onnx"))
            return self._text

    # --- pictures ---------------------------------------------------------------------------------------------------------------

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        return self._run_images(images, self._head, DIMENSION)

    def tags(self, images: Sequence[ImageInput], *, top_k: int = 5) -> list[list[tuple[str, float]]]:
        """For each picture the ``top_k`` most probable of the 1,000 classes of ImageNet, with their probabilities."""
        import numpy as np

        if not 1 <= top_k <= 1000:
            raise InvalidArgument(f"top_k is {top_k}; it must be from 1 to 1,000")
        names = json.loads(self._read("imagenet_classnames.json"))
        probabilities = self._run_images(images, "imagenet_probs", len(names))
        return [[(names[i], float(row[i])) for i in np.argsort(-row)[:top_k]] for row in probabilities]

    def _run_images(self, images: Sequence[ImageInput], output: str, width: int) -> NDArray[np.float32]:
        import numpy as np

        decoded = decode_images(images)
        result = np.empty((len(images), width), np.float32)
        session = self._image_model()
        for start in range(0, len(images), BATCH):
            # Shrunk one at a time, so that memory does not grow with the size or the number of the pictures.
            pixels = np.stack([_pixels(image) for image in islice(decoded, BATCH)])
            result[start : start + BATCH] = session.run([output], {"pixel_values": pixels})[0]
        return result

    def _image_model(self) -> Any:
        with self._lock:
            if self._image is None:
                self._image = self._session("image_encoder.onnx")
            return self._image

    # --- files ------------------------------------------------------------------------------------------------------------------

    def _session(self, name: str) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        # Threads that wait for each other in a loop win a sixth on an idle machine, and double the time on one that is shared with a database.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(self._read(name), options, providers=["CPUExecutionProvider"])

    def _read(self, name: str) -> bytes:
        """A file of the model, if it is as it was when it was packed."""
        try:
            if self._sums is None:
                lines = (self._directory / "SHA256SUMS").read_text("ascii").splitlines()
                self._sums = {file: digest for digest, file in (line.split() for line in lines)}
            data = (self._directory / name).read_bytes()
        except (OSError, ValueError) as error:
            raise ModelNotAvailable(
                f"the model's file {self._directory / name} cannot be read ({error}); reinstall likewise",
                model=self._card.name,
            ) from error
        if hashlib.sha256(data).hexdigest() != self._sums.get(name):
            raise ModelNotAvailable(
                f"the model's file {self._directory / name} is damaged: its checksum is not the one in SHA256SUMS; reinstall likewise",
                model=self._card.name,
            )
        return data


def _pixels(image: PIL.Image.Image) -> NDArray[np.float32]:
    """The picture as the encoder wants it: float32 of shape (3, 224, 224), RGB in 0..1, resized without cropping."""
    import numpy as np
    from PIL import Image

    resized = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32).transpose(2, 0, 1) / np.float32(255.0)
