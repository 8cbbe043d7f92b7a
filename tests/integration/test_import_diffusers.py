"""Stable Diffusion as diffusers saved it, served: the pictures that diffusers' pipeline draws of the same noise."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import httpx
import hub_rig
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from http_rig import gateway_process
from triton_gateways import beside_triton

from exporters.cli import main
from serving.codecs.pixels import pixels_of
from serving.diffusion.drawing import noise
from serving.repository.layout import scan

SHAPE = (4, 16, 16)
PROMPT = "two dogs on a beach"


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    """The folder of a repository with the imported model, and the pipeline as it is in diffusers."""
    folder = tmp_path_factory.mktemp("diffusers")
    pipeline = hub_rig.save_stable_diffusion(folder / "checkpoint")
    command = ["import-hub", str(folder / "checkpoint"), "--model", "painter", "--repository", str(folder / "models")]
    result = CliRunner().invoke(main, [*command, "--licence", "MIT"])
    assert result.exit_code == 0, result.output
    assert "parity: " in result.output
    return folder / "models", pipeline


def test_it_becomes_a_version_of_three_graphs(painter):
    folder, _ = painter
    index = scan(folder)
    assert index.problems == ()
    manifest = index.models["painter"].versions[1].manifest
    assert (manifest.task, manifest.family) == ("generate-images", "stable-diffusion")
    assert manifest.graphs == {"unet": "painter", "text": "painter.text", "decoder": "painter.decoder"}
    wanted = {
        "latents": [4, 16, 16], "scale": 2, "prediction": "epsilon", "sampler": "ddim", "steps": 50, "guidance": 7.5,
        "spacing": "leading", "offset": 1, "ends": "first",
        "schedule": {"kind": "scaled-linear", "steps": 1000, "beta_start": 0.00085, "beta_end": 0.012},
    }  # fmt: skip
    assert {name: manifest.preprocessing[name] for name in wanted} == wanted
    assert "clip" not in manifest.preprocessing
    text = manifest.preprocessing["text"]
    assert (text["max_tokens"], text["pad"], text["null"]) == (24, 1, "")
    assert manifest.parity.max_abs_difference < manifest.parity.tolerance
    assert manifest.parity.batch_max_abs_difference == 0, "rows in a batch are rows alone, to the bit"


@pytest.fixture(scope="module", params=["onnx", "triton"])
def gateway(painter, request, tmp_path_factory):
    with (
        beside_triton(painter[0], request.param) as environment,
        gateway_process(painter[0], tmp_path_factory.mktemp("state") / "state", **environment) as process,
    ):
        yield process


def drawn(gateway, **fields) -> np.ndarray:
    answer = httpx.post(f"{gateway.url}/v1/images/generations", json={"prompt": PROMPT, **fields}, timeout=120)
    assert answer.status_code == 200, answer.text
    return pixels_of(base64.b64decode(answer.json()["data"][0]["b64_json"]))


SCHEDULERS = {"ddim": DDIMScheduler, "dpm-solver++": DPMSolverMultistepScheduler}
ORDERS = [
    {"sampler": "ddim", "steps": 10},
    {"sampler": "dpm-solver++", "steps": 20},
    {"sampler": "ddim", "steps": 5, "guidance": 3, "negative_prompt": "a red apple"},
    {"sampler": "dpm-solver++", "steps": 5, "guidance": 3, "negative_prompt": "a red apple"},
]
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def expected(painter):
    """What diffusers draws for each of the orders: float32 [seeds, height, width, 3], 0 to 1."""
    folder, pipeline = painter
    found = []
    for order in ORDERS:
        kind = SCHEDULERS[order["sampler"]]
        pipeline.scheduler = kind.from_pretrained(folder.parent / "checkpoint", subfolder="scheduler")
        pictures = pipeline(
            PROMPT,
            num_inference_steps=order["steps"],
            guidance_scale=order.get("guidance", 7.5),
            negative_prompt=order.get("negative_prompt"),
            num_images_per_prompt=len(SEEDS),
            latents=torch.from_numpy(np.stack([noise(seed, 0, SHAPE).astype(np.float32) for seed in SEEDS])),
            output_type="np",
        )
        found.append(pictures.images)
    return found


@pytest.mark.parametrize("i", range(len(ORDERS)), ids=[f"{one['sampler']}, {one['steps']}" for one in ORDERS])
def test_it_draws_what_diffusers_draws_of_the_same_noise(expected, gateway, i):
    for seed, picture in zip(SEEDS, expected[i], strict=True):
        found = drawn(gateway, seed=seed, **ORDERS[i])
        assert found.shape == picture.shape == (32, 32, 3)
        assert np.abs(found - picture * 255).max() < 1.6, "half of rounding, and a level of 255"


def test_prompts_seeds_and_guidance_make_different_pictures(gateway):
    orders = [{}, {"prompt": "a man rides a horse"}, {"seed": 2}, {"guidance": 1}, {"negative_prompt": "a cat"}]
    pictures = [drawn(gateway, **{"seed": 1, "steps": 8, **order}) for order in orders]
    assert len({picture.tobytes() for picture in pictures}) == len(orders)


def test_a_picture_is_the_same_whoever_is_drawn_beside_it(gateway, request):
    """To the bit on the embedded engine, within a level on Triton, at mixed steps, guidance and samplers."""
    orders = [
        {
            "prompt": hub_rig.SENTENCES[i % 4], "seed": i, "steps": 6 + i, "guidance": (7.5, 1, 3)[i % 3],
            "sampler": ("ddim", "dpm-solver++", "ddpm")[i // 2 % 3],
        }
        for i in range(12)
    ]  # fmt: skip
    alone = [drawn(gateway, **order) for order in orders]
    tolerance = 0 if request.node.callspec.params["gateway"] == "onnx" else 1
    for _ in range(2):
        with ThreadPoolExecutor(len(orders)) as pool:
            together = list(pool.map(lambda order: drawn(gateway, **order), orders))
        for one, other in zip(alone, together, strict=True):
            assert np.abs(one.astype(int) - other).max() <= tolerance
