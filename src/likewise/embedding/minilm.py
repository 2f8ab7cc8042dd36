"""``minilm``: sentence-transformers/all-MiniLM-L6-v2 in full precision, a small and fast model for English."""

from __future__ import annotations

from likewise.abc.embedder import ModelCard
from likewise.embedding._hub import Loading, Source
from likewise.embedding._onnx_text import OnnxTextEmbedder, Overlong, TextModel

__all__ = ["MiniLMEmbedder"]

#: The commit and the checksums that others state too. The repository's tokenizer.json cuts at 128 tokens; its sentence_bert_config.json, which
#: counts, at 256.
MINILM = TextModel(
    ModelCard(
        name="minilm",
        dimension=384,
        modalities=("text",),
        max_tokens=256,
        licence="Apache-2.0",
        description="all-MiniLM-L6-v2, float32: English, small and fast",
    ),
    Source(
        "sentence-transformers/all-MiniLM-L6-v2",
        "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        ("onnx/model.onnx", "tokenizer.json"),
        {
            "onnx/model.onnx": "6fd5d72fe4589f189f8ebc006442dbb529bb7ce38f8082112682524616046452",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    ),
    pooling="mean",
)


class MiniLMEmbedder(OnnxTextEmbedder):
    """all-MiniLM-L6-v2: English texts to 384-d unit vectors. 87 MiB in float32.

    See ``OnnxTextEmbedder`` for the arguments.
    """

    def __init__(
        self, *, loading: Loading | None = None, revision: str | None = None, overlong: Overlong = "cut"
    ) -> None:
        super().__init__(MINILM, loading=loading, revision=revision, overlong=overlong)
