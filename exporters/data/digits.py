"""scikit-learn's handwritten digits: 1,797 pictures of 8 x 8 pixels, white strokes on black.

They are the test part of UCI's "Optical Recognition of Handwritten Digits", written by 13 people. Who wrote which is
not in the package, so a writer's hand can be on both sides of the split; the same picture cannot.
Source: https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from exporters.data.pictures import as_png, encode_pictures
from exporters.data.splits import Rows, Splits
from exporters.provenance import digest_arrays, package_version
from serving.codecs.preprocessing import ImagePreprocessing
from serving.picture_task import PIXELS
from serving.repository.manifest import Data
from serving.tensors import Array

# The split belongs to the data, not to a run: another training seed must not move test rows into training.
SPLIT_SEED: Final = 20_260
VALIDATION_SHARE: Final = 0.1
TEST_SHARE: Final = 0.2


def load_digits(preprocessing: Mapping[str, Any]) -> Splits:
    """The digits, split by class into 70 % to train, 10 % to validate and 20 % to test.

    Inputs: pixels uint8 [N, size, size, channels], each through a PNG file; targets: int64 [N], the digit.
    """
    from sklearn.datasets import load_digits as read

    source = read()
    pictures = np.rint(source.images * (255 / 16)).astype(np.uint8)  # 0 to 16 in the package
    targets = source.target.astype(np.int64)
    pixels = encode_pictures(map(as_png, pictures), ImagePreprocessing.model_validate(dict(preprocessing)))
    parts = {name: Rows({PIXELS: pixels[rows]}, targets[rows]) for name, rows in split(pictures, targets).items()}
    card = Data(
        name="scikit-learn digits",
        source=f"{package_version('scikit-learn')}, sklearn.datasets.load_digits (UCI Optical Recognition of Digits)",
        licence="BSD-3-Clause (scikit-learn); CC-BY-4.0 (UCI)",
        digest=digest_arrays([pictures, targets]),
        rows={name: len(rows) for name, rows in parts.items()},
        note="Writers are not named in the data, so one writer's digits can be both in training and in test rows.",
    )
    return Splits(card=card, test=parts["test"], train=parts["train"], validation=parts["validation"])


def split(pictures: Array, targets: Array) -> dict[str, Array]:
    """Row numbers of `train`, `validation` and `test`: sorted, disjoint, each class in equal shares.

    Equal pictures count as one until they have been dealt out, so none is in two parts.
    """
    generator = np.random.default_rng(SPLIT_SEED)
    _, first, group = np.unique(pictures.reshape(len(pictures), -1), axis=0, return_index=True, return_inverse=True)
    part_of_group = np.zeros(len(first), np.int64)
    for digit in np.unique(targets):
        groups = generator.permutation(np.flatnonzero(targets[first] == digit))
        test = round(len(groups) * TEST_SHARE)
        validation = round(len(groups) * VALIDATION_SHARE)
        part_of_group[groups[:test]] = 2
        part_of_group[groups[test : test + validation]] = 1
    part = part_of_group[group.reshape(-1)]
    return {name: np.flatnonzero(part == i) for i, name in enumerate(("train", "validation", "test"))}
