"""A family whose training takes a moment: two numbers in, two classes out. For tests of the training loop."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from exporters.data.splits import Rows, Splits
from exporters.family import Recipe
from exporters.training import Options, train
from serving.repository.manifest import Data

RECIPE = Recipe(epochs=4, batch_size=16, optimizer="adam", learning_rate=1e-2, weight_decay=1e-2)


class Tiny:
    """With dropout, noise and python's and numpy's own generators, so that chance of every kind has a part."""

    model = "tiny"
    score_name = "accuracy"
    search_space = None

    def network(self):
        return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))

    def augment(self, inputs, generator):
        noise = 0.1 * torch.randn(inputs[0].shape, generator=generator)
        return (inputs[0] + noise * float(np.random.rand() + np.random.random()),)  # noqa: NPY002

    def loss(self, scores, targets):
        return nn.functional.cross_entropy(scores, targets)

    def score(self, scores, targets):
        return (scores.argmax(1) == targets).float().mean()


class Stopping(Tiny):
    """Does `stop` in the middle of the third epoch: at batch 20, of 8 to the epoch."""

    def __init__(self, stop):
        self.stop, self.batches = stop, 0

    def augment(self, inputs, generator):
        self.batches += 1
        if self.batches == 20:
            self.stop()
        return super().augment(inputs, generator)


def points(count: int, seed: int) -> Rows:
    found = np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)
    return Rows({"points": found}, (found[:, 0] > found[:, 1]).astype(np.int64))


def splits() -> Splits:
    card = Data(name="points", source="", licence="", digest="sha256:" + "0" * 64)
    return Splits(card, points(32, 3), train=points(129, 1), validation=points(32, 2))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


if __name__ == "__main__":  # a training that says when it is in the middle of an epoch, and waits there to be killed
    folder = Path(sys.argv[1])

    def wait() -> None:
        os.write(1, b"in the middle\n")
        time.sleep(600)

    train(Stopping(wait), splits(), RECIPE, 5, Options(checkpoint=folder, quiet=True))
