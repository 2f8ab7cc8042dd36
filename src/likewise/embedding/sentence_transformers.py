"""Any model that the library sentence-transformers loads, from a folder, its cache or the Hugging Face hub.

The library and torch are imported when weights are loaded. Neither code of a model's own nor pickled weights are trusted because a
name in a database says so: ``trust_remote_code`` is an argument, and not a part of the name.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from likewise.abc.embedder import Embedder, ImageInput, Modality, ModelCard
from likewise.embedding._saved_model import prompts_of, read_saved_model
from likewise.embedding.images import decode_images
from likewise.embedding.texts import check_texts
from likewise.errors import (
    InvalidArgument,
    ModelNotAvailable,
    OptionalDependencyError,
    UnsupportedFeature,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SentenceTransformersEmbedder"]

FAMILY = EXTRA = "sentence-transformers"
Precision = Literal["auto", "float32", "bfloat16"]
#: A model of the hub: an owner and a name, or a name alone, which is the library's own.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?", re.ASCII)
#: Two words that no model may take for one.
PROBE = ("red", "blue")
#: What is read of a file that a card is made of.
MOST_BYTES = 16 * 1024 * 1024
#: Texts in one pass: few on a processor, where padding costs more than many at once save; on a GPU it is the other way round.
BATCH, BATCH_ON_GPU = 16, 128
#: So many passes are made before others have their turn.
PASSES = 8


class SentenceTransformersEmbedder(Embedder):
    """Embeds with a model that sentence-transformers loads; unit vectors. Also pictures, if the model takes them.

    ``model`` is a folder, or a name on the Hugging Face hub. ``dimension`` cuts vectors to their first numbers, for models that were
    trained for it (Matryoshka). ``query_prompt`` and ``passage_prompt`` are those the model brings, unless given.

    ``dtype`` is the precision it computes in. ``auto`` is ``bfloat16`` on a GPU or processor that has units for it, which halves the time, and
    ``float32`` elsewhere; the vectors of the two differ by less than what separates texts, but are not equal. ``device`` is torch's (``cuda``,
    ``mps``, ``cpu``); a GPU unless given, where there is one.

    ``cache_dir`` is where downloads are kept, Hugging Face's own cache unless given; ``offline=True`` downloads nothing. ``revision`` is a
    commit, branch or tag on the hub. ``trust_remote_code=True`` runs code that comes with the model: read it before.

    The card comes from the model's small files if they are on this machine; else the model is loaded for it.
    """

    def __init__(
        self,
        model: str,
        *,
        dimension: int | None = None,
        dtype: Precision = "auto",
        device: str | None = None,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        cache_dir: Path | None = None,
        offline: bool = False,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if not model or not model.isprintable() or (not _is_path(model) and not HUB_NAME.fullmatch(model)):
            raise InvalidArgument(
                f"{model!r:.80} names no model; give one of the Hugging Face hub, as in 'intfloat/e5-small-v2', or a folder, as in '/models/mine'"
            )
        if dimension is not None and not 1 <= dimension <= 16_000:
            raise InvalidArgument(f"dimension is {dimension}; it must be from 1 to 16,000")
        if dtype not in get_args(Precision):
            raise InvalidArgument(f"dtype is {dtype!r:.40}; it must be one of {', '.join(get_args(Precision))}")
        self._model = model
        self._name = f"{FAMILY}:{model}" if dimension is None else f"{FAMILY}:{model}@{dimension}"
        self._dimension = dimension
        self._dtype: Precision = dtype
        self._device = device
        self._prompts = (query_prompt, passage_prompt)
        self._cache_dir = cache_dir
        self._offline = offline
        self._revision = revision
        self._trust_remote_code = trust_remote_code
        self._lock = threading.Lock()
        #: One pass at a time: tokenizers cannot be shared by threads, and the device is busy anyway.
        self._pass = threading.Lock()
        self._loaded: Any = None
        self._card: ModelCard | None = None

    @classmethod
    def from_variant(
        cls, variant: str, *, cache_dir: Path | None = None, offline: bool = False
    ) -> SentenceTransformersEmbedder:
        """``sentence-transformers:intfloat/e5-small-v2``, or with ``@256`` at the end for shorter vectors."""
        model, at, dimension = variant.rpartition("@")
        if not (at and dimension.isascii() and dimension.isdecimal()):
            model, dimension = variant, ""
        if not model:
            raise ValueError(
                f"what follows the colon is a model, as in '{FAMILY}:sentence-transformers/all-MiniLM-L6-v2'"
            )
        try:
            return cls(model, dimension=int(dimension) if dimension else None, cache_dir=cache_dir, offline=offline)
        except InvalidArgument as error:
            raise ValueError(str(error)) from error

    @property
    def card(self) -> ModelCard:
        if self._card is None:
            self._card = self._described() or self._described_by(self._library_model())
        return self._card

    def warm_up(self) -> None:
        self._library_model()

    def close(self) -> None:
        with self._lock:
            self._loaded = None

    # --- embedding --------------------------------------------------------------------------------------------------------------

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model = self._library_model()
        # An empty prompt, not none: else the model's default one is taken.
        return self._run(check_texts(texts), len, lambda part, size: model.encode(part, prompt="", **_options(size)))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model, prompt = self._library_model(), self._prompts[0]
        return self._run(
            check_texts(texts), len, lambda part, size: model.encode_query(part, prompt=prompt, **_options(size))
        )

    def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model, prompt = self._library_model(), self._prompts[1]
        return self._run(
            check_texts(texts), len, lambda part, size: model.encode_document(part, prompt=prompt, **_options(size))
        )

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        if "image" not in self.card.modalities:
            raise UnsupportedFeature("embedding pictures", backend=self._name)
        pictures = list(decode_images(images))
        model = self._library_model()
        return self._run(pictures, lambda _: 0, lambda part, size: model.encode(part, prompt="", **_options(size)))

    def _run(
        self, items: Sequence[Any], length: Callable[[Any], int], encode: Callable[[list[Any], int], Any]
    ) -> NDArray[np.float32]:
        """Rows for the items: those of like length together, unit vectors, in the order given."""
        import numpy as np

        card = self.card
        result = np.empty((len(items), card.dimension), np.float32)
        order = sorted(range(len(items)), key=lambda place: length(items[place]))
        size = BATCH if str(self._library_model().device).startswith("cpu") else BATCH_ON_GPU
        for start in range(0, len(order), size * PASSES):
            places = order[start : start + size * PASSES]
            with self._pass:
                rows = _rows(encode([items[place] for place in places], size))
            if rows.ndim != 2 or rows.shape[0] != len(places) or rows.shape[1] < card.dimension:
                raise ModelNotAvailable(
                    f"{self._name} gives an array of shape {rows.shape} for {len(places)} inputs, where ({len(places)}, {card.dimension}) is due",
                    model=self._name,
                )
            rows = rows[:, : card.dimension]
            result[places] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return result

    # --- the card ---------------------------------------------------------------------------------------------------------------

    def _described(self) -> ModelCard | None:
        """The card by the model's files on this machine; None if they are not there, or not understood."""
        saved = read_saved_model(self._file)
        if saved is None:
            return None
        return self._made_card(saved.dimension, saved.max_tokens, ("text",), (saved.query_prompt, saved.passage_prompt))

    def _described_by(self, model: Any) -> ModelCard:
        dimension = _dimension_of(model)
        if not isinstance(dimension, int) or dimension < 1:
            raise ModelNotAvailable(
                f"{self._name} does not say how many numbers its vectors have, so it is not a model for one vector a text",
                model=self._name,
            )
        # Models that see pictures say so by their modalities; before version 5.4 of the library, by the class of their first part.
        sees = "image" in getattr(model, "modalities", ()) or type(model[0]).__name__ == "CLIPModel"
        modalities: tuple[Modality, ...] = ("text", "image") if sees else ("text",)
        most = getattr(model, "max_seq_length", None)
        prompts = prompts_of(model.prompts or {}, model.default_prompt_name)
        return self._made_card(dimension, most if isinstance(most, int) else None, modalities, prompts)

    def _made_card(
        self, dimension: int, max_tokens: int | None, modalities: tuple[Modality, ...], prompts: tuple[str, str]
    ) -> ModelCard:
        if self._dimension is not None and self._dimension > dimension:
            raise ModelNotAvailable(
                f"{self._name} cannot be had: the model's vectors have {dimension} numbers, and are cut, never lengthened",
                model=self._name,
            )
        query, passage = (mine if mine is not None else its for mine, its in zip(self._prompts, prompts, strict=True))
        return ModelCard(
            name=self._name,
            dimension=self._dimension or dimension,
            modalities=modalities,
            revision=self._revision or "1",
            max_tokens=max_tokens,
            licence="the model's own",
            description=f"{self._model}, by sentence-transformers",
            query_prompt=query,
            passage_prompt=passage,
        )

    def _file(self, name: str) -> bytes | None:
        """A small file of the model, if it is on this machine."""
        try:
            if _is_path(self._model):
                return _small(Path(self._model).expanduser() / name)
            import huggingface_hub

            repository = self._model if "/" in self._model else f"sentence-transformers/{self._model}"
            found = huggingface_hub.try_to_load_from_cache(
                repository, name, cache_dir=self._cache_dir, revision=self._revision
            )
            return _small(Path(found)) if isinstance(found, str) else None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ImportError):
            return None
        except OSError as error:
            raise ModelNotAvailable(
                f"{self._name}: its file {name} cannot be read: {error}", model=self._name
            ) from error

    # --- the weights ------------------------------------------------------------------------------------------------------------

    def _library_model(self) -> Any:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> Any:
        import numpy as np

        try:
            import sentence_transformers  # pyright: ignore[reportMissingImports] -- an extra
            import torch  # pyright: ignore[reportMissingImports] -- an extra
        except ModuleNotFoundError as error:
            raise OptionalDependencyError("sentence-transformers", extra=EXTRA) from error
        except (ImportError, OSError) as error:  # OSError: a library of torch's own that the system cannot load
            raise ModelNotAvailable(
                f"{self._name}: sentence-transformers does not work here: {error}", model=self._name
            ) from error
        path = str(Path(self._model).expanduser()) if _is_path(self._model) else self._model
        if _is_path(self._model) and not Path(path).is_dir():
            raise ModelNotAvailable(f"{self._name}: there is no folder {path}", model=self._name)
        try:
            model = sentence_transformers.SentenceTransformer(
                path,
                device=self._device,
                cache_folder=None if self._cache_dir is None else str(self._cache_dir),
                local_files_only=self._offline or _is_path(self._model),
                revision=self._revision,
                trust_remote_code=self._trust_remote_code,
            )
            model = model.to(getattr(torch, precision(self._dtype, torch, str(model.device)))).eval()
            first, second = _rows(model.encode(list(PROBE), prompt="", **_options(len(PROBE))))
        except Exception as error:
            # What the libraries raise for models that are unknown, incomplete or damaged is of many classes.
            raise ModelNotAvailable(
                f"{self._name} cannot be loaded: {_first_line(error)}; {self._tried()}", model=self._name
            ) from error
        # Without its vocabulary a model is loaded all the same, and takes every word for the same unknown one.
        if not (np.isfinite(first).all() and np.isfinite(second).all()) or np.array_equal(first, second):
            raise ModelNotAvailable(
                f"{self._name} is damaged: it gives no finite numbers, or the same for {PROBE[0]!r} and {PROBE[1]!r}, as without its vocabulary; "
                f"{self._tried()}",
                model=self._name,
            )
        if self._card is not None and "image" not in self._card.modalities:
            found = _dimension_of(model)
            if isinstance(found, int) and found < self._card.dimension:
                raise ModelNotAvailable(
                    f"{self._name} is damaged: its files say {self._card.dimension} numbers a vector, its weights {found}",
                    model=self._name,
                )
        return model

    def _tried(self) -> str:
        """Where the model was looked for, and what to do."""
        if _is_path(self._model):
            return f"tried the folder {self._model}, which must be as sentence-transformers saves a model"
        cache = "Hugging Face's cache" if self._cache_dir is None else f"the cache {self._cache_dir}"
        if self._offline:
            return f"tried {cache} only, for offline=True or LIKEWISE_MODEL_OFFLINE says so: allow the download once, or name a folder"
        return f"tried {cache}, then the Hugging Face hub: look at the name and the network, or name a folder that has the model"


def precision(dtype: Precision, torch: Any, device: str) -> str:
    """The name of torch's type to compute in: for ``auto``, bfloat16 where the device has units for it."""
    if dtype != "auto":
        return dtype
    if device.startswith("cuda"):
        has_units = torch.cuda.is_bf16_supported()
    elif device.startswith("cpu"):
        # Private names of torch for what the processor says; a version without them computes as it always did.
        has_units = any(
            getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    else:
        has_units = False
    return "bfloat16" if has_units else "float32"


def _rows(tensor: Any) -> NDArray[np.float32]:
    """A tensor's rows, in float32 before anything is measured: bfloat16 has three digits, and NumPy has no bfloat16."""
    import numpy as np

    return np.asarray(tensor.float().cpu().numpy(), np.float32)


def _options(size: int) -> dict[str, Any]:
    return {"batch_size": size, "convert_to_tensor": True, "show_progress_bar": False}


def _dimension_of(model: Any) -> object:
    """How many numbers the model's vectors have; the method was called otherwise before version 5.4."""
    ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return ask()


def _is_path(model: str) -> bool:
    """Whether a name is that of a folder, by its looks: what is on this machine does not change what a name means."""
    return (
        model.startswith(("/", "./", "../", "~")) or "\\" in model or model in (".", "..") or Path(model).is_absolute()
    )


def _small(path: Path) -> bytes | None:
    """A file's bytes; None of one that is too large to be what it should be."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    return data if len(data) <= MOST_BYTES else None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]:.300}" if lines else type(error).__name__
