"""Any model that the library fastembed knows by name, for texts, and for pictures where the model has a side for them.

The library is imported when the card or the weights are first asked for. It runs on ONNX Runtime and keeps a list of its models, so that
a card needs no weights.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.abc.embedder import Embedder, ImageInput, Modality, ModelCard
from likewise.embedding._onnx import by_length, default_threads
from likewise.embedding.images import decode_images
from likewise.embedding.texts import check_texts
from likewise.errors import InvalidArgument, ModelNotAvailable, OptionalDependencyError, UnsupportedFeature

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FastEmbedEmbedder"]

FAMILY = EXTRA = "fastembed"
#: Inputs in one run. The library's own 256 pads a short text to the longest of 256.
BATCH = 8
#: Texts whose numbers of characters differ by no more than this part of the shortest go into one run, and at most so many characters:
#: attention needs memory for the square of a length.
SPREAD, MOST_CHARACTERS = 0.1, 16_384
#: A text of so many characters for each token of the longest that the model takes is cut in any case.
CHARACTERS_PER_TOKEN = 8
_BGE = "Represent this sentence for searching relevant passages: "
#: What models were trained to see before a query and before a passage, as their authors say; the library puts nothing there. By the
#: beginning of the name, in lower case.
PROMPTS: Mapping[str, tuple[str, str]] = {
    "intfloat/multilingual-e5": ("query: ", "passage: "),
    "nomic-ai/nomic-embed-text": ("search_query: ", "search_document: "),
    "snowflake/snowflake-arctic-embed": (_BGE, ""),
    "mixedbread-ai/mxbai-embed-large-v1": (_BGE, ""),
    "baai/bge-small-en": (_BGE, ""),
    "baai/bge-base-en": (_BGE, ""),
    "baai/bge-large-en": (_BGE, ""),
    "baai/bge-small-zh": ("为这个句子生成表示以用于检索相关文章：", ""),
    "google/embeddinggemma": ("task: search result | query: ", "title: none | text: "),
    "qwen/qwen3-embedding": (
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
        "",
    ),
}


class FastEmbedEmbedder(Embedder):
    """Embeds with a model of fastembed's list, or one that was added to it (``TextEmbedding.add_custom_model``); unit vectors.

    ``model`` is the library's name for it. Two that it lists apart, as ``Qdrant/clip-ViT-B-32-text`` and ``…-vision``, are one here, by the
    name of either, or by what they share. ``query_prompt`` and ``passage_prompt`` are those the model was trained with, unless given.

    ``directory`` is a folder with the model's files, and ``image_directory`` one with those of its side for pictures; then nothing is
    downloaded. ``cache_dir`` is where downloads are kept, Likewise's folder in the user's cache unless given; ``offline=True`` downloads
    nothing. ``threads`` are ONNX Runtime's, as many as there are processors, at most four, unless given.
    """

    def __init__(
        self,
        model: str,
        *,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        directory: Path | None = None,
        image_directory: Path | None = None,
        cache_dir: Path | None = None,
        offline: bool = False,
        threads: int | None = None,
    ) -> None:
        if not model or not model.isprintable():
            raise InvalidArgument(
                f"{model!r:.80} cannot name a model; give one of fastembed's list, as in 'BAAI/bge-small-en-v1.5'"
            )
        if threads is not None and threads < 1:
            raise InvalidArgument(f"threads is {threads}; it must be at least 1")
        self._model = model
        self._name = f"{FAMILY}:{model}"
        known = next((each for name, each in PROMPTS.items() if model.lower().startswith(name)), ("", ""))
        self._query_prompt = known[0] if query_prompt is None else query_prompt
        self._passage_prompt = known[1] if passage_prompt is None else passage_prompt
        self._directories = {"text": directory, "image": image_directory}
        self._cache_dir = cache_dir
        self._offline = offline
        self._threads = threads or default_threads()
        self._lock = threading.Lock()
        self._loaded: dict[Modality, Any] = {}
        self._known: tuple[ModelCard, Mapping[Modality, str]] | None = None

    @classmethod
    def from_variant(cls, variant: str, *, cache_dir: Path | None = None, offline: bool = False) -> FastEmbedEmbedder:
        """``fastembed:BAAI/bge-small-en-v1.5``."""
        if not variant:
            raise ValueError(
                f"what follows the colon is a model of fastembed's list, as in '{FAMILY}:BAAI/bge-small-en-v1.5'"
            )
        try:
            return cls(variant, cache_dir=cache_dir, offline=offline)
        except InvalidArgument as error:
            raise ValueError(str(error)) from error

    @property
    def card(self) -> ModelCard:
        return self._look_up()[0]

    def warm_up(self) -> None:
        for modality in self.card.modalities:
            self._library_model(modality)

    def close(self) -> None:
        with self._lock:
            self._loaded.clear()

    # --- embedding --------------------------------------------------------------------------------------------------------------

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._run_texts(texts, "", lambda model: model.embed)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._run_texts(texts, self.card.query_prompt, lambda model: model.query_embed)

    def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._run_texts(texts, self.card.passage_prompt, lambda model: model.passage_embed)

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        import numpy as np

        model = self._library_model("image")
        decoded = decode_images(images)
        result = np.empty((len(images), self.card.dimension), np.float32)
        for start in range(0, len(images), BATCH):
            # A few at a time, so that memory does not grow with the number of the pictures.
            few = list(islice(decoded, BATCH))
            result[start : start + len(few)] = self._unit(model.embed(few, batch_size=BATCH), len(few))
        return result

    def _run_texts(
        self, texts: Sequence[str], prompt: str, method: Callable[[Any], Callable[..., Iterable[Any]]]
    ) -> NDArray[np.float32]:
        import numpy as np

        model = self._library_model("text")
        prompted = [prompt + text for text in check_texts(texts)]
        result = np.empty((len(texts), self.card.dimension), np.float32)
        # Texts of like length together: a run pads all of its texts to the longest.
        most = CHARACTERS_PER_TOKEN * (self.card.max_tokens or 1_000_000)
        lengths = [min(len(text), most) for text in prompted]
        for places in by_length(lengths, BATCH, spread=SPREAD, batch_tokens=MOST_CHARACTERS):
            rows = method(model)([prompted[place] for place in places], batch_size=BATCH)
            result[places] = self._unit(rows, len(places))
        return result

    def _unit(self, rows: Iterable[Any], count: int) -> NDArray[np.float32]:
        """The library's rows as unit vectors, of which not all of its models give."""
        import numpy as np

        found = np.asarray(list(rows), np.float32)
        if found.shape != (count, self.card.dimension):
            raise ModelNotAvailable(
                f"{self._name} gives an array of shape {found.shape} where ({count}, {self.card.dimension}) is due: the files are not of the "
                "model that fastembed's list describes",
                model=self._name,
            )
        norms: NDArray[np.float32] = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return np.divide(found, norms, dtype=np.float32)

    # --- the library ------------------------------------------------------------------------------------------------------------

    def _look_up(self) -> tuple[ModelCard, Mapping[Modality, str]]:
        """The card, and the library's name for each side of the model."""
        if self._known is None:
            library = self._library()
            texts = {each["model"].lower(): each for each in library.TextEmbedding.list_supported_models()}
            images = {each["model"].lower(): each for each in library.ImageEmbedding.list_supported_models()}
            self._known = self._matched(texts, images)
        return self._known

    def _matched(
        self, texts: Mapping[str, Mapping[str, Any]], images: Mapping[str, Mapping[str, Any]]
    ) -> tuple[ModelCard, Mapping[Modality, str]]:
        name = self._model.lower()
        base = re.sub(r"-(?:text|vision)(?=$|-)", "", name)
        of_text, of_image = (
            listed.get(name) or next((each for key, each in listed.items() if key == _with(base, side)), None)
            for listed, side in ((texts, "text"), (images, "vision"))
        )
        found: dict[Modality, Mapping[str, Any]] = {}
        if of_text is not None:
            found["text"] = of_text
        if of_image is not None and (of_text is None or of_text["dim"] == of_image["dim"]):
            found["image"] = of_image
        if not found:
            raise ModelNotAvailable(
                f"fastembed {_version()} does not know a model {self._model!r:.80}; it knows {_nearest(name, [*texts, *images])}. "
                "All of them: fastembed.TextEmbedding.list_supported_models(), and ImageEmbedding; others are added by add_custom_model",
                model=self._name,
            )
        one = next(iter(found.values()))
        tokens = re.search(r"(\d+) input tokens", str(of_text["description"])) if of_text is not None else None
        card = ModelCard(
            name=self._name,
            dimension=int(one["dim"]),
            modalities=tuple(found),
            max_tokens=int(tokens[1]) if tokens else None,
            licence=str(one["license"]) or "the model's own",
            description=f"{' and '.join(dict.fromkeys(str(each['model']) for each in found.values()))}, by fastembed",
            query_prompt=self._query_prompt,
            passage_prompt=self._passage_prompt,
        )
        return card, {modality: str(each["model"]) for modality, each in found.items()}

    def _library(self) -> Any:
        try:
            import fastembed
        except ModuleNotFoundError as error:
            raise OptionalDependencyError("fastembed", extra=EXTRA) from error
        except (ImportError, OSError) as error:
            raise ModelNotAvailable(f"{self._name}: fastembed does not work here: {error}", model=self._name) from error
        return fastembed

    def _library_model(self, modality: Modality) -> Any:
        names = self._look_up()[1]
        if modality not in names:
            what = {"text": "embedding texts", "image": "embedding pictures"}[modality]
            raise UnsupportedFeature(what, backend=self._name)
        with self._lock:
            if modality not in self._loaded:
                self._loaded[modality] = self._load(modality, names[modality])
            return self._loaded[modality]

    def _load(self, modality: Modality, name: str) -> Any:
        library = self._library()
        kind = library.TextEmbedding if modality == "text" else library.ImageEmbedding
        directory = self._directories[modality]
        if directory is not None and not directory.is_dir():
            raise ModelNotAvailable(f"{self._name}: there is no folder {directory}", model=self._name)
        cache = self._cache()
        try:
            return kind(
                model_name=name,
                cache_dir=str(cache),
                threads=self._threads,
                local_files_only=self._offline,
                **({} if directory is None else {"specific_model_path": str(directory)}),
            )
        except Exception as error:
            # What it raises for models that are absent, incomplete or damaged is of many classes.
            if directory is not None:
                tried = f"tried the folder {directory}, which must hold the files of {name}"
            elif self._offline:
                tried = f"tried the cache {cache} only, for offline=True or LIKEWISE_MODEL_OFFLINE says so: allow the download once, or copy the cache"
            else:
                tried = f"tried the cache {cache}, then the Hugging Face hub: look at the network"
            lines = str(error).strip().splitlines() or [""]
            raise ModelNotAvailable(
                f"{self._name} cannot be loaded: {type(error).__name__}: {lines[0]:.300}; {tried}", model=self._name
            ) from error

    def _cache(self) -> Path:
        """Not the library's own default, a folder for temporary files, where on shared machines others may lay files first."""
        if self._cache_dir is not None:
            return self._cache_dir
        import platformdirs

        return platformdirs.user_cache_path("likewise", appauthor=False) / "models"


def _with(base: str, side: str) -> str:
    """``x/clip-vit-b-32-text`` of ``x/clip-vit-b-32``, ``x/nomic-embed-text-v1.5`` of ``x/nomic-embed-v1.5``."""
    head, version, tail = base.partition("-v1.5")
    return f"{head}-{side}{version}{tail}"


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or known[:5]
    return f"{', '.join(near)} and {len(known) - len(near)} more"


def _version() -> str:
    from importlib.metadata import version

    return version("fastembed")
