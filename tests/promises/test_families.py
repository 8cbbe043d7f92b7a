"""Every family, quickly: it trains or converts, publishes, and does the very same again from the same seed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from data_rig import need_clothes, need_emoji, need_human_models, need_names

from exporters.cli import main
from exporters.family import models
from serving.repository.layout import scan

NEEDS = {
    "alexnet": need_clothes,
    "cnn": need_clothes,
    "resnet": need_clothes,
    "vit": need_clothes,
    "unet": need_emoji,
    "yolo": need_emoji,
    "captioner": need_emoji,
    "captioner-transformer": need_emoji,
    "clip": need_names,
    "ddpm": need_names,
    "diffusion": need_names,
    "minilm": need_names,
    "minilm-static": need_names,
    "transfer": need_emoji,
    "transfer-features": need_emoji,
    "transfer-scratch": need_emoji,
    "nanodet": need_human_models,
    "selfie": need_human_models,
}


def train(name: str, folder) -> dict:
    """The log's line of a quick run, of a process that may reach nothing but this machine's files."""
    runs = folder / "runs.jsonl"
    options = ["--quick", "--repository", str(folder / "models"), "--runs", str(runs)]
    result = CliRunner().invoke(main, ["train", name, *options])
    assert result.exit_code == 0, result.output
    return json.loads(runs.read_text().splitlines()[-1])


@pytest.mark.parametrize("name", models())
def test_a_family_trains_quickly_and_the_same_each_time(tmp_path, monkeypatch, name):
    NEEDS.get(name, lambda: None)()
    monkeypatch.setattr("socket.socket.connect", None)  # no network
    first, again = (train(name, tmp_path) for _ in range(2))
    assert first["metrics"] == again["metrics"]
    assert first["best"] == again["best"] or {**first["best"], "seconds": 0} == {**again["best"], "seconds": 0}
    index = scan(tmp_path / "models")
    assert index.problems == ()
    versions = index.models[name].versions
    graphs = [(version.folder / "model.onnx").read_bytes() for version in versions.values()]
    assert graphs[0] == graphs[1]
    print(f"\n{name}: {first['seconds']} s, {first['metrics']}")
