"""Folders of diffusers: schedulers as our manifests say them, and what is refused before anything of it is loaded."""

from __future__ import annotations

import json
import pickle

import hub_rig
import pytest
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
)

from exporters.errors import CheckpointUnsupported
from exporters.hub import importing, stable_diffusion
from exporters.hub.checkpoint import open_pipeline
from exporters.hub.schedulers import read_sampling
from serving.diffusion.drawing import Sampling
from serving.repository.manifest import Licence

CLAIMS = importing.Claims(Licence(spdx="MIT", source="tests"))


def read(scheduler) -> dict:
    """What our manifest says of it, once it has been a file."""
    found = read_sampling(json.loads(scheduler.to_json_string()), 7.5)
    Sampling.model_validate(found).plan()
    return found


# Schedulers


@pytest.mark.parametrize(
    ("scheduler", "wanted"),
    [
        (DDIMScheduler(), {"sampler": "ddim", "steps": 50, "spacing": "leading", "ends": "clean", "clip": 1.0}),
        (DDIMScheduler(clip_sample=False, set_alpha_to_one=False), {"ends": "first", "clip": None}),
        (DDPMScheduler(clip_sample_range=2.0), {"sampler": "ddpm", "steps": 1000, "clip": 2.0}),
        (PNDMScheduler(steps_offset=1), {"sampler": "dpm-solver++", "steps": 25, "offset": 1, "spacing": "leading"}),
        (EulerDiscreteScheduler(timestep_spacing="trailing"), {"sampler": "dpm-solver++", "spacing": "trailing"}),
        (DPMSolverMultistepScheduler(), {"sampler": "dpm-solver++", "spacing": "linspace", "clip": None}),
        (DDIMScheduler(prediction_type="v_prediction"), {"prediction": "v"}),
        (DDIMScheduler(prediction_type="sample"), {"prediction": "sample"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_scheduler_is_read(scheduler, wanted):
    found = read(scheduler)
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("settings", "kind"),
    [({"beta_schedule": "linear"}, "linear"), ({"beta_schedule": "scaled_linear"}, "scaled-linear"),
     ({"beta_schedule": "squaredcos_cap_v2"}, "cosine")],
)  # fmt: skip
def test_its_noise_is_read(settings, kind):
    found = read(DDIMScheduler(num_train_timesteps=500, beta_start=0.001, beta_end=0.03, **settings))
    assert found["schedule"] == {"kind": kind, "steps": 500, "beta_start": 0.001, "beta_end": 0.03}


def test_a_file_that_says_little_is_read_as_diffusers_reads_it():
    assert read_sampling({"_class_name": "DDIMScheduler", "clip_sample": False}, 5)["spacing"] == "leading"
    assert read_sampling({"_class_name": "PNDMScheduler"}, 5)["spacing"] == "linspace"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trained_betas", [0.1, 0.2]),
        ("rescale_betas_zero_snr", True),
        ("thresholding", True),
        ("use_karras_sigmas", True),
        ("beta_schedule", "sigmoid"),
        ("prediction_type", "flow_prediction"),
    ],
)
def test_a_scheduler_that_would_draw_otherwise_is_refused(field, value):
    with pytest.raises(CheckpointUnsupported, match=field):
        read_sampling({"_class_name": "DDIMScheduler", field: value}, 7.5)


# Folders


@pytest.fixture
def folder(tmp_path):
    hub_rig.save_stable_diffusion(tmp_path / "sd")
    return tmp_path / "sd"


def refused(folder, tmp_path) -> str:
    with pytest.raises(CheckpointUnsupported) as caught:
        importing.import_folder(folder, "painter", tmp_path / "repository", CLAIMS)
    assert not (tmp_path / "repository").exists()
    assert caught.value.remedy
    return str(caught.value)


def test_other_pipelines_are_refused(folder, tmp_path):
    hub_rig.edit(folder / "model_index.json", _class_name="FluxPipeline")
    assert "Its class is FluxPipeline. These are taken: StableDiffusionPipeline" in refused(folder, tmp_path)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("unet/config.json", "unet has no config.json"),
        ("unet/diffusion_pytorch_model.safetensors", "unet has no weights"),
        ("vae/diffusion_pytorch_model.safetensors", "vae has no weights"),
        ("text_encoder/model.safetensors", "text_encoder has no weights"),
        ("scheduler/scheduler_config.json", "no scheduler/scheduler_config.json"),
        ("tokenizer/tokenizer.json", "tokenizer has no tokenizer.json"),
    ],
)
def test_what_is_missing_is_named(folder, tmp_path, file, said):
    (folder / file).unlink()
    assert said in refused(folder, tmp_path)


def test_pickled_weights_are_never_opened(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return exec, ("raise SystemExit('it was unpickled')",)

    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    assert "only diffusion_pytorch_model.bin, which are never unpickled" in refused(folder, tmp_path)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_code_that_comes_with_it_is_never_run(folder, tmp_path, part):
    hub_rig.edit(folder / part / "config.json", auto_map={"AutoModel": "mine.Model"})
    assert "which is never run" in refused(folder, tmp_path)


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("unet", {"_class_name": "UNet3DConditionModel"}, "not a UNet2DConditionModel"),
        ("vae", {"_class_name": "VQModel"}, "not a AutoencoderKL"),
        ("unet", {"addition_embed_type": "text_time"}, "it has addition_embed_type"),
        ("unet", {"class_embed_type": "timestep"}, "it has class_embed_type"),
    ],
)
def test_parts_of_another_kind_are_refused(folder, tmp_path, part, changes, said):
    hub_rig.edit(folder / part / "config.json", **changes)
    assert said in refused(folder, tmp_path)


def test_weights_that_are_missing_are_not_made_up(folder, tmp_path):
    hub_rig.edit(folder / "unet/config.json", layers_per_block=2)
    assert "diffusers cannot load it" in refused(folder, tmp_path)


def test_a_graph_larger_than_protobuf_can_hold_is_refused_before_it_is_made(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stable_diffusion, "MOST_BYTES", 1_000_000)
    assert "unet has 0.0 GB of weights" in refused(folder, tmp_path)


@pytest.mark.parametrize(
    ("changes", "pad"),
    [({}, 1), ({"pad_token": {"content": hub_rig.START}}, 0), ({"pad_token": None}, 1)],
    ids=["a text", "an object", "none"],
)
def test_texts_are_padded_as_the_tokenizer_says(folder, changes, pad):
    hub_rig.edit(folder / "tokenizer/tokenizer_config.json", **changes)
    taken = stable_diffusion.take(open_pipeline(folder))
    assert (taken.preprocessing["text"]["pad"], taken.preprocessing["text"]["max_tokens"]) == (pad, 24)


def test_a_token_to_pad_with_must_be_known(folder, tmp_path):
    hub_rig.edit(folder / "tokenizer/tokenizer_config.json", pad_token="<none>")  # noqa: S106
    assert "no <none>" in refused(folder, tmp_path)
