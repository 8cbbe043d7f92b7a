"""A family of two graphs, one of them over texts of any length: exported, measured and published as one version."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import hub_rig
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from exporters import pipeline
from exporters.data.splits import HeldOut, Rows
from exporters.errors import FloorMissed, ParityFailed
from exporters.family import PARITY_ROWS, Family
from exporters.measures.measured import Measured
from exporters.options import Options
from serving.repository.layout import scan
from serving.repository.manifest import Data, Licence, Metric
from serving.versions.examiner import Examiner

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


class FixedTexts(Texts):
    """Only right for rows of the length that it was exported with."""

    def forward(self, input_ids, attention_mask):
        shift = torch.where(torch.tensor(input_ids.shape[1] == LENGTH), 0.0, 1.0)
        return super().forward(input_ids, attention_mask) + (shift if torch.compiler.is_compiling() else 0.0)


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


class Text(Pair):
    """One tower alone."""

    model = "text"
    preprocessing: ClassVar = {"text": {"max_tokens": LENGTH}}

    def graphs(self, network):
        return {"text": network["text"]}

    def measure_graphs(self, graphs, data):
        return Measured({"dimensions": Metric(value=4, rows=1)}, {})


def exported(tmp_path, family):
    options = Options(tmp_path / "models", tmp_path / "runs.jsonl")
    made = pipeline.export_family(family(), options)
    version = scan(tmp_path / "models").models[family.model].versions[1]
    return made, version, asyncio.run(Examiner().examine(version, None))


def test_a_family_of_two_graphs_is_one_version(tmp_path):
    made, version, verdict = exported(tmp_path, Pair)
    manifest = version.manifest
    assert manifest.graphs == {"image": "pair", "text": "pair.text"}, "in the order of the task's roles"
    assert set(manifest.files) == {"model.onnx", "golden.npz", "run.json", "tokenizer.json"}
    assert set(manifest.graph_files["pair.text"]) == {"model.onnx", "golden.npz"}
    assert [list(spec.shape) for spec in version.graphs["text"].config.inputs] == [[-1], [-1]]
    assert manifest.metrics["dimensions"].floor == 4.0
    assert made.model_bytes == sum(graph.file.stat().st_size for graph in version.graphs.values())
    assert made.parity.max_abs_difference > 0
    (line,) = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert json.loads(line)["metrics"] == {"dimensions": 4}
    assert verdict.passed, verdict


def test_a_role_of_its_own_is_stated_though_there_is_but_one_graph(tmp_path):
    _, version, verdict = exported(tmp_path, Text)
    assert version.manifest.graphs == {"text": "text"}
    assert version.manifest.graph_files == {}
    assert verdict.passed, verdict


def test_nothing_is_published_where_one_graph_is_wrong(tmp_path):
    class Fixed(Pair):
        texts = FixedTexts

    class Short(Pair):
        floors: ClassVar = {"dimensions": 5.0}

    for family, error in ((Fixed, ParityFailed), (Short, FloorMissed)):
        with pytest.raises(error):
            exported(tmp_path, family)
        assert not (tmp_path / "models").exists()
