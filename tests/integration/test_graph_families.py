"""A family of two graphs, one of them over texts of any length: exported, measured and published as one version."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import pytest
import torch
from pair_rig import LENGTH, Pair, Texts

from exporters import pipeline
from exporters.errors import FloorMissed, ParityFailed
from exporters.measures.measured import Measured
from exporters.options import Options
from serving.repository.layout import scan
from serving.repository.manifest import Metric
from serving.versions.examiner import Examiner


class FixedTexts(Texts):
    """Only right for rows of the length that it was exported with."""

    def forward(self, input_ids, attention_mask):
        shift = torch.where(torch.tensor(input_ids.shape[1] == LENGTH), 0.0, 1.0)
        return super().forward(input_ids, attention_mask) + (shift if torch.compiler.is_compiling() else 0.0)


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
