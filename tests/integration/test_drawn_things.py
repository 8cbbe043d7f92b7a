"""The committed diffusion models through a gateway: what is asked for is drawn, the same by the same seed."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest
from http_rig import gateway_process

from serving.gateway.errors import IMAGES_PATH

MODELS = Path(__file__).parents[2] / "model_repository"
SIDES = {"diffusion": 64, "ddpm": 32}
COLOURS = {
    "a red apple": (1, 0, 0),
    "the tomato": (1, 0, 0),
    "a droplet": (0, 0, 1),
    "frog": (0, 1, 0),
    "sun": (1, 1, 0),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    for model in SIDES:
        for graph in MODELS.glob(f"{model}*"):
            shutil.copytree(graph, folder / "repository" / graph.name)
    with gateway_process(folder / "repository", folder / "state") as process:
        yield process


def ask(gateway, prompt: str, model: str, seed: int = 5) -> np.ndarray:
    """The picture, as numbers from 0 to 1."""
    order = {"prompt": prompt, "model": model, "seed": seed}
    answer = httpx.post(gateway.url + IMAGES_PATH, json=order, timeout=60)
    assert answer.status_code == 200, answer.text
    (picture,) = answer.json()["data"]
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(picture["b64_json"])))) / 255


@pytest.mark.parametrize("prompt", COLOURS)
@pytest.mark.parametrize("model", SIDES)
def test_a_thing_is_drawn_by_name_in_its_colours_on_white(gateway, model, prompt):
    picture, side = ask(gateway, prompt, model), SIDES[model]
    assert picture.shape == (side, side, 3)
    assert picture[[0, 0, -1, -1], [0, -1, 0, -1]].min() > 0.8, "its corners"
    middle = picture[side // 4 : -side // 4, side // 4 : -side // 4]
    most, least = (middle[..., np.array(COLOURS[prompt]) == value].mean() for value in (1, 0))
    assert most > least + 0.15


@pytest.mark.parametrize("model", SIDES)
def test_the_seed_decides_and_words_that_are_not_known_do_not(gateway, model):
    first, again, other = (ask(gateway, "a red apple", model, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert 0 < np.abs(other - first).mean() < 0.25
    assert np.abs(ask(gateway, "a shiny red apple!", model) - first).mean() < 0.1
    assert np.abs(ask(gateway, "a frog", model) - first).mean() > 0.1
