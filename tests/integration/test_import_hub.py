"""`exporters import-hub`: a checkpoint as transformers saved it, served, against transformers' own forward pass."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import hub_rig
import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from http_rig import gateway_process
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import CLIPImageProcessor, ViTImageProcessor
from triton_gateways import beside_triton

from exporters.cli import main
from serving.repository.digests import verify_version
from serving.repository.layout import scan
from serving.repository.manifest import Licence

TEXTS = ("a photo of a cat", "two dogs", "a man rides a horse on a beach, and then a horse rides a man on a beach")
SIDE = hub_rig.SIDE


def import_hub(folder: Path, repository: Path, *more: str, model: str = "tiny"):
    command = ["import-hub", str(folder), "--model", model, "--repository", str(repository), "--licence", "MIT", *more]
    return CliRunner().invoke(main, command)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of a repository with the imported model, and the model as it is in torch."""
    folder = tmp_path_factory.mktemp("hub")
    model = hub_rig.save_clip(folder / "clip")
    result = import_hub(folder / "clip", folder / "models", "--intended-use", "Tests.", "--attribution", "Somebody")
    assert result.exit_code == 0, result.output
    assert "parity: " in result.output
    assert "published" in result.output
    return folder, model


def test_a_clip_becomes_a_version_of_two_towers(clip):
    folder, _ = clip
    index = scan(folder / "models")
    assert index.problems == ()
    version = index.models["tiny"].versions[1]
    verify_version(version)
    manifest = version.manifest
    assert (manifest.task, manifest.family, manifest.intended_use) == ("embed", "clip", "Tests.")
    assert manifest.licence == Licence(spdx="MIT", source="clip", attribution="Somebody")
    assert manifest.graphs == {"image": "tiny", "text": "tiny.text"}
    assert manifest.preprocessing["image"]["resize"] == SIDE + 8
    assert manifest.preprocessing["text"]["max_tokens"] == 24
    assert manifest.parity.max_abs_difference < manifest.parity.tolerance
    assert "tokenizer.json" in manifest.files
    assert [list(spec.shape) for spec in version.graphs["text"].config.inputs] == [[-1], [-1]]


@pytest.mark.parametrize("engine", ["onnx", "triton"])
def test_it_answers_as_transformers_does(clip, tmp_path, engine):
    folder, model = clip
    tokenizer = Tokenizer.from_file(str(folder / "clip/tokenizer.json"))
    colours = np.random.default_rng(1).integers(0, 256, (SIDE + 8, SIDE + 8, 3), np.uint8)  # resized to what it is
    file = io.BytesIO()
    PIL.Image.fromarray(colours).save(file, "PNG")
    with (
        beside_triton(folder / "models", engine) as environment,
        gateway_process(folder / "models", tmp_path / "state", **environment) as gateway,
    ):
        url = f"{gateway.url}/v1/embed?model=tiny"
        texts = [httpx.post(url, content=text, headers={"content-type": "text/plain"}).json() for text in TEXTS]
        picture = httpx.post(url, content=file.getvalue(), headers={"content-type": "image/png"}).json()
        row = {"name": "input_ids", "datatype": "INT64", "shape": [1, 3], "data": [[0, 70, 1]]}
        inputs = [row, {**row, "name": "attention_mask", "data": [[1, 1, 1]]}]
        direct = httpx.post(f"{gateway.url}/v2/models/tiny.text/infer", json={"inputs": inputs}).json()
    for text, found in zip(TEXTS, texts, strict=True):
        ids = tokenizer.encode(text).ids
        ids = [*ids[:23], ids[-1]] if len(ids) > 24 else ids
        with torch.no_grad():
            expected = model.get_text_features(torch.tensor([ids])).pooler_output[0]
        assert_same(found, expected)
    with torch.no_grad():
        pixels = CLIPImageProcessor.from_pretrained(folder / "clip")(PIL.Image.fromarray(colours), return_tensors="pt")
        assert_same(picture, model.get_image_features(pixels["pixel_values"]).pooler_output[0])
        expected = model.get_text_features(torch.tensor([[0, 70, 1]])).pooler_output[0]
    assert_same({"embedding": direct["outputs"][0]["data"], "dimensions": 16}, expected)
    assert direct["model_name"] == "tiny.text"


def assert_same(reply, expected: torch.Tensor) -> None:
    assert reply["dimensions"] == len(reply["embedding"]) == 16
    np.testing.assert_allclose(reply["embedding"], (expected / expected.norm()).numpy(), atol=1e-5)


def test_a_further_checkpoint_is_a_version_to_promote_and_to_go_back_from(clip, tmp_path):
    folder, _ = clip
    hub_rig.save_clip(tmp_path / "other", seed=1)
    with gateway_process(folder / "models", tmp_path / "state") as gateway:
        result = import_hub(tmp_path / "other", folder / "models", "--promote", "--url", gateway.admin_url)
        assert result.exit_code == 0, result.output
        assert "promoted: tiny/2 is live" in result.output
        headers = {"content-type": "text/plain"}
        url = f"{gateway.url}/v1/embed?model=tiny"
        second = httpx.post(url, content="a cat", headers=headers).json()
        httpx.post(f"{gateway.admin_url}/admin/models/tiny/rollback", json={}).raise_for_status()
        first = httpx.post(url, content="a cat", headers=headers).json()
    assert (first["version"], second["version"]) == (1, 2)
    assert np.dot(first["embedding"], second["embedding"]) < 0.9


def test_what_the_gate_refuses_is_not_published(tmp_path):
    """Weights that are zero: the towers answer nothing but NaN or the same."""
    hub_rig.save_clip(tmp_path / "clip")
    weights = load_file(tmp_path / "clip/model.safetensors")
    weights["visual_projection.weight"] *= 0
    save_file(weights, tmp_path / "clip/model.safetensors", metadata={"format": "pt"})
    result = import_hub(tmp_path / "clip", tmp_path / "models")
    assert result.exit_code == 1
    assert "The gate refuses it. " in result.output
    assert not (tmp_path / "models").exists()


def test_mistakes_are_one_line_with_a_remedy(tmp_path):
    result = import_hub(tmp_path / "nowhere", tmp_path / "models")
    assert result.exit_code == 1
    assert result.output == "Error: There is no folder nowhere. Name the folder that save_pretrained wrote.\n"


CAPTIONS = 4


@pytest.mark.parametrize(("decoder", "engine"), [("gpt2", "onnx"), ("bert", "onnx"), ("gpt2", "triton")])
def test_a_captioner_says_what_generate_says(tmp_path, decoder, engine):
    """Greedy and by beams, with generate()'s own scores."""
    model = hub_rig.save_captioner(tmp_path / "checkpoint", decoder)
    result = import_hub(tmp_path / "checkpoint", tmp_path / "models", model="captioner")
    assert result.exit_code == 0, result.output
    manifest = scan(tmp_path / "models").models["captioner"].versions[1].manifest
    longest = manifest.preprocessing["text"]["max_tokens"]
    assert manifest.graphs == {"encoder": "captioner", "decoder": "captioner.decoder"}
    pictures = np.random.default_rng(2).integers(0, 256, (CAPTIONS, SIDE, SIDE, 3), np.uint8)
    with (
        beside_triton(tmp_path / "models", engine) as environment,
        gateway_process(tmp_path / "models", tmp_path / "state", **environment) as gateway,
    ):
        for beams in (1, 2, 5):
            replies = [captioned(gateway.url, picture, beams) for picture in pictures]
            for reply, (text, score) in zip(replies, generated(model, tmp_path, pictures, beams, longest), strict=True):
                assert reply["text"] == text
                assert reply["score"] == pytest.approx(score, abs=1e-4)
            assert len({reply["text"] for reply in replies}) > 1


def captioned(url: str, picture: np.ndarray, beams: int) -> dict:
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "PNG")
    headers = {"content-type": "image/png"}
    return httpx.post(f"{url}/v1/caption?num_beams={beams}", content=file.getvalue(), headers=headers).json()


def generated(model, folder: Path, pictures: np.ndarray, beams: int, longest: int) -> list[tuple[str, float]]:
    """transformers' captions and their mean log-probabilities."""
    tokenizer = Tokenizer.from_file(str(folder / "checkpoint/tokenizer.json"))
    processor = ViTImageProcessor.from_pretrained(folder / "checkpoint")
    found = []
    for picture in pictures:
        pixels = processor(PIL.Image.fromarray(picture), return_tensors="pt")["pixel_values"]
        made = model.generate(
            pixels,
            num_beams=beams,
            early_stopping=beams > 1,
            max_length=None,
            max_new_tokens=longest,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
        if beams > 1:
            score = float(made.sequences_scores[0])
        else:
            score = float(model.compute_transition_scores(made.sequences, made.scores, normalize_logits=True).mean())
        found.append((tokenizer.decode(made.sequences[0].tolist()).strip(), score))
    return found
