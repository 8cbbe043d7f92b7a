"""An embedder of three words. A collection is always of a model, even where callers bring all vectors themselves.

Its weights are random.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tokenizers import Tokenizer, models, pre_tokenizers

from serving.repository.digests import digest_folder
from serving.repository.manifest import Code, Licence, Manifest, write_manifest

NAME: Final = "words"
WORDS: Final = ("[PAD]", "one", "two", "three")
CONFIG: Final = """\
name: "words"
platform: "onnxruntime_onnx"
max_batch_size: 32
input { name: "input_ids" data_type: TYPE_INT64 dims: -1 }
input { name: "attention_mask" data_type: TYPE_INT64 dims: -1 }
output { name: "embedding" data_type: TYPE_FP32 dims: -1 }
"""


def publish(repository: Path, dimensions: int) -> Path:
    """Writes version 1 into the repository; gives its folder."""
    version = repository / NAME / "1"
    version.mkdir(parents=True)
    value = helper.make_tensor_value_info
    table = np.random.default_rng(0).normal(size=(len(WORDS), dimensions)).astype(np.float32)
    constants = {"table": table, "last": np.array([2]), "tokens": np.array([1])}
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["found"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["found", "column"], ["heard"]),
            helper.make_node("ReduceSum", ["heard", "tokens"], ["sum"], keepdims=0),
            helper.make_node("LpNormalization", ["sum"], ["embedding"], axis=-1, p=2),
        ],
        NAME,
        [value(name, TensorProto.INT64, ["n", "l"]) for name in ("input_ids", "attention_mask")],
        [value("embedding", TensorProto.FLOAT, ["n", dimensions])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), version / "model.onnx")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (version / "tokenizer.json").write_text(tokenizer.to_str())
    (repository / NAME / "config.pbtxt").write_text(CONFIG)
    manifest = Manifest(
        task="embed",
        family="bench",
        created="2026-01-01T00:00:00+00:00",
        graphs={"text": NAME},
        preprocessing={"text": {"max_tokens": 16}},
        licence=Licence(spdx="Apache-2.0", source="random numbers"),
        code=Code(revision="bench", version="0"),
        files=digest_folder(version),
    )
    write_manifest(version / "manifest.json", manifest)
    return version
