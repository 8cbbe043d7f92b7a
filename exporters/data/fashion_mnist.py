"""Fashion-MNIST: 70,000 pictures of clothes of 28 x 28 pixels, light on black, ten classes.

Source: H. Xiao, K. Rasul, R. Vollgraf, https://arxiv.org/abs/1708.07747
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from exporters.data.files import debian_file
from exporters.data.pictures import as_png, encode_pictures
from exporters.data.splits import Rows, Splits
from exporters.provenance import digest_arrays
from serving.codecs.preprocessing import ImagePreprocessing
from serving.picture_task import PIXELS
from serving.repository.manifest import Data
from serving.tensors import Array

PACKAGE: Final = "dataset-fashion-mnist"
FOLDER: Final = "usr/share/datasets/fashion-mnist"
CLASSES: Final = (
    "T-shirt or top", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
SIDE: Final = 28
# The split belongs to the data, not to a run: another training seed must not move rows between the parts.
SPLIT_SEED: Final = 20_261
VALIDATION: Final = 5_000
QUICK: Final = {"train": 3_000, "validation": 500, "test": 1_000}


def load_fashion_mnist(preprocessing: Mapping[str, Any], *, quick: bool) -> Splits:
    """The set's own 10,000 test pictures, 5,000 of the others to validate, the rest to train; quick: a part of each.

    Inputs: pixels uint8 [N, size, size, 1], each through a PNG file; targets: int64 [N], the class. Training pictures
    that are also test or validation pictures are left out. PackageMissing: the data are not here.
    """
    pictures, targets = {}, {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        pictures[part] = _read(f"{stem}-images-idx3-ubyte.gz")
        targets[part] = _read(f"{stem}-labels-idx1-ubyte.gz").astype(np.int64)
    digest = digest_arrays([pictures["train"], targets["train"], pictures["test"], targets["test"]])
    places = {"test": np.arange(len(targets["test"])), **split(pictures["train"], pictures["test"])}
    settings = ImagePreprocessing.model_validate(dict(preprocessing))
    parts = {}
    for part, rows in places.items():
        source = "test" if part == "test" else "train"
        chosen = rows[: QUICK[part]] if quick else rows
        pixels = encode_pictures(map(as_png, pictures[source][chosen]), settings)
        parts[part] = Rows({PIXELS: pixels}, targets[source][chosen])
    card = Data(
        name="Fashion-MNIST",
        source=f"Debian's {PACKAGE}; Zalando Research, https://arxiv.org/abs/1708.07747",
        licence="MIT",
        digest=digest,
        rows={part: len(rows) for part, rows in parts.items()},
    )
    return Splits(card=card, test=parts["test"], train=parts["train"], validation=parts["validation"])


def split(train: Array, test: Array) -> dict[str, Array]:
    """Row numbers of `train` and `validation` among the training pictures, in random order; none is in both parts or
    in the test, nor is a picture that looks just like one.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train))
    validation, rest = order[:VALIDATION], order[VALIDATION:]
    held_out = {picture.tobytes() for picture in test}
    validation = _without(train, validation, held_out)
    return {
        "train": _without(train, rest, held_out | {train[row].tobytes() for row in validation}),
        "validation": validation,
    }


def _without(pictures: Array, rows: Array, known: set[bytes]) -> Array:
    return np.array([row for row in rows if pictures[row].tobytes() not in known], np.int64)


def _read(name: str) -> Array:
    """An IDX file of bytes. Format: http://yann.lecun.com/exdb/mnist/ (four bytes of type and rank, then the sizes)."""
    data = gzip.decompress(debian_file(PACKAGE, f"{FOLDER}/{name}").read_bytes())
    rank = data[3]
    shape = np.frombuffer(data, ">u4", rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape([int(size) for size in shape])
