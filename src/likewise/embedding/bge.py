"""The BGE models of BAAI: ``bge-small-en`` and ``bge-base-en`` for English, ``bge-m3`` for a hundred languages and long texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from likewise.abc.embedder import ModelCard
from likewise.embedding._hub import Loading, Source
from likewise.embedding._onnx import by_length
from likewise.embedding._onnx_text import BATCH, SPREAD, OnnxTextEmbedder, Overlong, TextModel
from likewise.embedding.texts import check_texts
from likewise.errors import InvalidArgument, ModelNotAvailable, UnsupportedFeature

__all__ = ["BgeEmbedder", "BgeM3Embedder"]

_QUERY = "Represent this sentence for searching relevant passages: "
_VOCABULARY = "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66"
#: The names that exporters give to the weights of the tokens.
_SPARSE = ("sparse_weights", "sparse_vecs", "sparse_embeddings")


def _english(size: str, dimension: int, repository: str, revision: str, graph: str) -> TextModel:
    card = ModelCard(
        name=f"bge-{size}-en",
        dimension=dimension,
        modalities=("text",),
        max_tokens=512,
        licence="MIT",
        description=f"{repository.partition('/')[2]}, float32: English",
        query_prompt=_QUERY,
    )
    sums = {"onnx/model.onnx": graph, "tokenizer.json": _VOCABULARY}
    return TextModel(card, Source(repository, revision, tuple(sums), sums), pooling="cls")


ENGLISH = {
    "small": _english(
        "small",
        384,
        "BAAI/bge-small-en-v1.5",
        "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
        "828e1496d7fabb79cfa4dcd84fa38625c0d3d21da474a00f08db0f559940cf35",
    ),
    "base": _english(
        "base",
        768,
        "BAAI/bge-base-en-v1.5",
        "a5beb1e3e68b9ab74eb54cfd186867f64f240e1a",
        "9bc579acdba21c253c62a9bf866891355a63ffa3442b52c8a37d75b2ccb91848",
    ),
}

_M3 = {
    "onnx/model.onnx": "f84251230831afb359ab26d9fd37d5936d4d9bb5d1d5410e66442f630f24435b",
    "onnx/model.onnx_data": "1eebfb28493f67bba03ce0ef64bfdc7fc5a3bd9d7493f818bb1d78cd798416b4",
    "onnx/Constant_7_attr__value": "cdf16f72c5d07b36484056e601ed9687f78477e5d85cee85a34f2406b7fb5906",
    "tokenizer.json": "21106b6d7dab2952c1d496fb21d5dc9db75c28ed361a05f5020bbba27810dd08",
}
M3 = TextModel(
    ModelCard(
        name="bge-m3",
        dimension=1024,
        modalities=("text",),
        max_tokens=8192,
        licence="MIT",
        description="bge-m3, float32: more than a hundred languages, long texts",
    ),
    Source("BAAI/bge-m3", "5617a9f61b028005a4858fdac845db406aefb181", tuple(_M3), _M3),
    pooling="cls",
)


class BgeEmbedder(OnnxTextEmbedder):
    """bge-small-en-v1.5 (384-d, 128 MiB) and bge-base-en-v1.5 (768-d, 416 MiB): English texts to unit vectors.

    ``embed_queries`` puts before a text what the model was trained to see before short texts that search. See ``OnnxTextEmbedder`` for the
    arguments.
    """

    def __init__(
        self,
        size: Literal["small", "base"] = "small",
        *,
        loading: Loading | None = None,
        revision: str | None = None,
        overlong: Overlong = "cut",
    ) -> None:
        if size not in ENGLISH:
            raise InvalidArgument(f"size is {size!r}; it is 'small' or 'base'")
        super().__init__(ENGLISH[size], loading=loading, revision=revision, overlong=overlong)


class BgeM3Embedder(OnnxTextEmbedder):
    """bge-m3: texts in more than a hundred languages to 1,024-d unit vectors, up to 8,192 tokens each. 2.1 GiB.

    A text of 8,192 tokens needs several gigabytes of memory while it is embedded. See ``OnnxTextEmbedder`` for the arguments.
    """

    def __init__(
        self,
        *,
        loading: Loading | None = None,
        revision: str | None = None,
        overlong: Overlong = "cut",
        model: TextModel = M3,
    ) -> None:
        super().__init__(model, loading=loading, revision=revision, overlong=overlong)

    def embed_sparse(self, texts: Sequence[str]) -> list[dict[int, float]]:
        """The weight of each token of each text by its id, larger than 0, without special tokens; of a token that comes again, the largest.

        How much two texts share is the sum, over the tokens of both, of the products of the weights. ``UnsupportedFeature`` if the ONNX file
        at hand does not give them: the one of BAAI gives the dense vector only.
        """
        import numpy as np

        texts = check_texts(texts)
        loaded = self._load()
        output = next((name for name in _SPARSE if name in loaded.outputs), None)
        if output is None:
            raise UnsupportedFeature(
                "sparse vectors",
                backend=self.card.name,
                hint=f"the ONNX file at hand gives only {', '.join(loaded.outputs)}; use one that was exported with {_SPARSE[0]}",
            )
        special = {*loaded.tokenizer.head, *loaded.tokenizer.tail, loaded.tokenizer.pad}
        result: list[dict[int, float]] = [{} for _ in texts]
        for windows in self._windows(loaded, texts):
            for places in by_length([len(window.ids) for window in windows], BATCH, spread=SPREAD):
                batch = [windows[i] for i in places]
                weights, mask = self._run(loaded, output, batch)
                if weights.shape not in (mask.shape, (*mask.shape, 1)) or not np.isfinite(weights).all():
                    raise ModelNotAvailable(
                        f"{self.card.name} gave weights of shape {weights.shape} for tokens of shape {mask.shape}, or weights that are not "
                        "finite: the file is damaged, or of another model",
                        model=self.card.name,
                    )
                for window, row in zip(batch, weights.reshape(mask.shape), strict=True):
                    found = result[window.text]
                    for token, weight in zip(window.ids, row[len(loaded.tokenizer.head) :].tolist(), strict=False):
                        if weight > 0 and token not in special and weight > found.get(token, 0.0):
                            found[token] = weight
        return result
