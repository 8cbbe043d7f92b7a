"""A tiny embedder of words, version by version, whose spaces disagree: what is searched in the wrong one is seen."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tritonclient.grpc import model_config_pb2 as pb

from serving.repository.config import write_config
from serving.repository.digests import digest_folder
from serving.repository.manifest import Manifest, write_manifest

WORDS = tuple(f"w{i}" for i in range(64))
DIMENSIONS = 8
MODEL = "words"


@cache
def vectors(number: int, dimensions: int = DIMENSIONS) -> np.ndarray:
    """What version `number` makes of each word: float32 [64, dimensions], of length 1."""
    found = np.random.default_rng(number).normal(size=(len(WORDS), dimensions)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def nearest(number: int, word: str, among: list[str], k: int, dimensions: int = DIMENSIONS) -> list[str]:
    """The words nearest to one, as version `number` sees them."""
    table = vectors(number, dimensions)
    scores = {other: float(table[WORDS.index(other)] @ table[WORDS.index(word)]) for other in among}
    return sorted(among, key=lambda other: -scores[other])[:k]


def add_embedder(
    root: Path,
    number: int = 1,
    name: str = MODEL,
    *,
    dimensions: int = DIMENSIONS,
    words: int = len(WORDS),
    **config: Any,
) -> Path:
    """Publishes a version that embeds text as the mean of its words; gives its folder.

    words: it knows so many of them, and answers others with NaN.
    """
    folder = root / name / str(number)
    table = np.concatenate([np.ones((1, dimensions), np.float32), vectors(number, dimensions)])
    table[words + 1 :] = np.nan
    value = helper.make_tensor_value_info
    tiny.write_graph(
        folder / "model.onnx",
        [
            helper.make_node("Gather", ["table", "input_ids"], ["found"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["found", "column"], ["heard"]),
            helper.make_node("ReduceSum", ["heard", "tokens"], ["sum"], keepdims=0),
            helper.make_node("LpNormalization", ["sum"], ["embedding"], axis=-1, p=2),
        ],
        [value("input_ids", TensorProto.INT64, ["n", "l"]), value("attention_mask", TensorProto.INT64, ["n", "l"])],
        [value("embedding", TensorProto.FLOAT, ["n", dimensions])],
        [("table", table), ("last", np.array([2])), ("tokens", np.array([1]))],
    )
    (folder / "tokenizer.json").write_text(_tokenizer())
    inputs = [pb.ModelInput(name=one, data_type=pb.TYPE_INT64, dims=[-1]) for one in ("input_ids", "attention_mask")]
    outputs = [pb.ModelOutput(name="embedding", data_type=pb.TYPE_FP32, dims=[-1])]
    write_config(root / name / "config.pbtxt", tiny.config(name, input=inputs, output=outputs, **config))
    manifest = Manifest(
        task="embed",
        family="tiny",
        created="2026-01-01T00:00:00+00:00",
        graphs={"text": name},
        preprocessing={"text": {"max_tokens": 16}},
        licence=tiny.LICENCE,
        code=tiny.CODE,
        files=digest_folder(folder),
    )
    write_manifest(folder / "manifest.json", manifest)
    return folder


def _tokenizer() -> str:
    vocabulary = {"[PAD]": 0} | {word: i for i, word in enumerate(WORDS, 1)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))  # noqa: S106  (a token of text)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())
