"""What of a checkpoint's folder is taken, and what is refused before anything of it is read: with a remedy."""

from __future__ import annotations

import json
import pickle

import hub_rig
import numpy as np
import PIL.Image
import pytest
import torch
from transformers import CLIPImageProcessor

from exporters.errors import CheckpointUnsupported
from exporters.hub import importing
from exporters.hub.checkpoint import Checkpoint, open_checkpoint
from exporters.hub.pictures import read_seeing
from exporters.hub.tokens import read_tokenizer
from serving.codecs.image import open_image
from serving.repository.manifest import Licence

CLAIMS = importing.Claims(Licence(spdx="MIT", source="tests"))


@pytest.fixture
def folder(tmp_path):
    hub_rig.save_clip(tmp_path / "clip")
    return tmp_path / "clip"


def refused(folder, tmp_path, model="clip") -> str:
    with pytest.raises(CheckpointUnsupported) as caught:
        importing.import_folder(folder, model, tmp_path / "repository", CLAIMS)
    assert not (tmp_path / "repository").exists()
    assert caught.value.remedy
    return str(caught.value)


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was unpickled')",)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    assert "There is no folder nowhere" in refused(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refused(tmp_path / "empty", tmp_path)
    (tmp_path / "empty/config.json").write_text("[]")
    assert "config.json is no JSON object" in refused(tmp_path / "empty", tmp_path)


def test_pickled_weights_are_never_opened(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    assert "has no weights" in refused(folder, tmp_path)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    assert "only pytorch_model.bin, which are never unpickled" in refused(folder, tmp_path)


@pytest.mark.parametrize("nested", [False, True])
def test_code_of_a_checkpoint_is_never_run(folder, tmp_path, nested):
    code = {"auto_map": {"AutoModel": "modeling_trap.Trap"}}
    (folder / "modeling_trap.py").write_text("raise SystemExit('it was run')")
    hub_rig.edit(folder / "config.json", **({"text_config": code} if nested else code))
    assert "names code that comes with the checkpoint" in refused(folder, tmp_path)


def test_unknown_architectures_are_told_what_is_taken(folder, tmp_path):
    hub_rig.edit(folder / "config.json", model_type="llama")
    assert "Its model_type is llama. These are taken: clip" in refused(folder, tmp_path)
    hub_rig.edit(folder / "config.json", model_type=None)
    assert "Its model_type is none" in refused(folder, tmp_path)
    assert "'../clip' is no name of a model" in refused(folder, tmp_path, "../clip")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json is no tokenizer"),
        (lambda f: hub_rig.edit(f / "preprocessor_config.json", resample=7), "its resample is 7"),
        (lambda f: hub_rig.edit(f / "preprocessor_config.json", do_resize=False), "does not resize"),
        (lambda f: hub_rig.edit(f / "preprocessor_config.json", do_center_crop=False), "make no square"),
        (lambda f: hub_rig.edit(f / "preprocessor_config.json", image_mean=None), "states no image_mean"),
        (lambda f: hub_rig.edit(f / "preprocessor_config.json", image_mean=[0.5], image_std=[1]), "three channels"),
        (lambda f: hub_rig.edit(f / "preprocessor_config.json", size={"shortest_edge": 20}), "crops 32 pixels"),
        (lambda f: hub_rig.edit(f / "preprocessor_config.json", crop_size=16), "the network takes 32"),
        (lambda f: hub_rig.edit(f / "config.json", vision_config={}), "has no size vision_config.image_size"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x08" + bytes(40)), "transformers cannot load it"),
    ],
)
def test_what_is_missing_or_unfit_is_named(folder, tmp_path, spoil, words):
    spoil(folder)
    assert words in refused(folder, tmp_path)


def test_weights_that_are_missing_are_not_made_up(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights are missing, such as text_projection.weight" in refused(folder, tmp_path)


def test_pictures_are_seen_as_the_preprocessor_sees_them(folder):
    """Cropping and resampling are one step here and two there, with rounding in between."""
    rows, columns = np.mgrid[0:300, 0:450] / 450  # whose resized sides are whole numbers
    colours = np.stack([rows, columns, (np.sin(12 * rows) + np.cos(15 * columns) + 2) / 4], axis=2)
    picture = PIL.Image.fromarray((255 * colours).astype(np.uint8))
    picture.save(folder / "picture.png")
    seeing = read_seeing(open_checkpoint(folder), hub_rig.SIDE)
    assert seeing.preprocessing.model_dump(exclude_defaults=True) == {"resize": 40, "size": 32}
    pixels = seeing.preprocessing.apply(open_image((folder / "picture.png").read_bytes()))
    mine = seeing.pixels_in()(torch.from_numpy(pixels[np.newaxis]))
    theirs = CLIPImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    assert (mine - theirs).abs().mean() < 0.02, "of values from -2 to 2"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"size": {"height": 32, "width": 32}, "resample": 2}, {"resize": None, "size": 32, "resample": "bilinear"}),
        ({"size": 32, "resample": 0}, {"resize": None, "size": 32, "resample": "nearest"}),
        ({"size": 40, "crop_size": 32, "do_center_crop": True, "resample": 3}, {"resize": 40, "size": 32}),
    ],
)
def test_older_and_newer_preprocessors(tmp_path, stated, expected):
    stated |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": stated}))
    found = read_seeing(Checkpoint(tmp_path, {}), 32)
    assert found.preprocessing.model_dump(exclude_defaults=True) == {"resize": None, **expected}
    assert found.mean.tolist() == found.scale.tolist() == [127.5] * 3


def test_a_tokenizer_of_older_files_becomes_one_file(folder):
    expected = hub_rig.tokenizer().encode("a photo of a horse").ids
    made = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(made["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in made["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    from tokenizers import Tokenizer

    found = Tokenizer.from_str(read_tokenizer(open_checkpoint(folder)).decode()).encode("a photo of a horse").ids
    assert (found[0], found[-1]) == (expected[0], expected[-1])
    assert len(found) > 4
