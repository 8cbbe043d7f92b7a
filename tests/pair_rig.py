"""A family of two graphs that takes a second to export: pictures and texts of any length into one space."""

from __future__ import annotations

from typing import ClassVar

import hub_rig
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from exporters.data.splits import HeldOut, Rows
from exporters.family import PARITY_ROWS, Family
from exporters.measures.measured import Measured
from serving.repository.manifest import Data, Licence, Metric

SIDE, LENGTH = 8, 24


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(3, 4)

    def forward(self, pixels):
        return functional.normalize(self.project(pixels.float().mean(dim=(1, 2)) / 255), dim=1)


class Texts(nn.Module):
    """The mean of the words that count: padding, and how long a row is, must not matter."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(300, 4)

    def forward(self, input_ids, attention_mask):
        counts = attention_mask.unsqueeze(2).float()
        return functional.normalize((self.words(input_ids) * counts).sum(1) / counts.sum(1), dim=1)


class Pair(Family[HeldOut]):
    model = "pair"
    task = "embed"
    intended_use = "Tests."
    preprocessing: ClassVar = {"image": {"resize": None, "size": SIDE}, "text": {"max_tokens": LENGTH}}
    tolerance = 1e-5
    floors: ClassVar = {"dimensions": 4.0}
    max_batch_size = 8
    free_axes: ClassVar = {"input_ids": "length", "attention_mask": "length"}
    texts = Texts

    def licence(self):
        return Licence(spdx="MIT", source="tests")

    def labels(self):
        return ()

    def data(self, *, quick):
        chance = np.random.default_rng(0)
        pixels = chance.integers(0, 256, (PARITY_ROWS, SIDE, SIDE, 3), np.uint8)
        card = Data(name="noise", source="tests", licence="CC0-1.0", digest="sha256:" + "0" * 64)
        return HeldOut(card, Rows({"pixels": pixels}, np.zeros(PARITY_ROWS)))

    def network(self):
        torch.manual_seed(0)
        return nn.ModuleDict({"text": self.texts(), "image": Images()})

    def graphs(self, network):
        return dict(network.items())

    def graph_rows(self, network, data):
        chance = np.random.default_rng(1)
        mask = (np.arange(LENGTH) < chance.integers(1, LENGTH, (PARITY_ROWS, 1))).astype(np.int64)
        return {
            "image": data.test.inputs,
            "text": {"input_ids": chance.integers(0, 300, mask.shape) * mask, "attention_mask": mask},
        }

    def measure_graphs(self, graphs, data):
        pictures = graphs["image"](data.test.inputs)["embedding"]
        words = graphs["text"]({"input_ids": np.ones((1, 5), np.int64), "attention_mask": np.ones((1, 5), np.int64)})
        assert pictures.shape[1] == words["embedding"].shape[1]
        return Measured({"dimensions": Metric(value=pictures.shape[1], rows=len(pictures))}, {})

    def files(self, network):
        return {"tokenizer.json": hub_rig.tokenizer().to_str().encode()}
