"""Networks that take noise away: what they learn is what the samplers ask of them, and no row depends on its batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from exporters import parity, to_onnx
from exporters.data.emoji_prompts import NULL, PAD
from exporters.diffusion import denoising
from exporters.diffusion.codec import CHANNELS, SCALE, Pixels, principal_components
from exporters.diffusion.denoising import Denoiser, noised
from exporters.diffusion.drawing import Asked, draw
from exporters.diffusion.network import UNet
from exporters.diffusion.prompts import Words
from exporters.graph_config import make_config
from exporters.measures.prompts import BY_GUIDANCE, prompt_measures
from serving.diffusion.drawing import Sampling
from serving.diffusion.schedule import Schedule
from serving.diffusion.solvers import without_noise
from serving.tasks.generate_images import PLUGIN

UNET = PLUGIN.signatures["unet"]
SAMPLING = Sampling(schedule=Schedule(kind="cosine"), prediction="v", steps=8, guidance=2.0)
ROWS, TOKENS, WIDTH = 12, 5, 16


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = UNet((3, 16, 16), (16, 24), WIDTH, patch=2).eval()
    for parameter in made.parameters():  # those that begin as nothing, too
        nn.init.normal_(parameter, std=0.1)
    return made


@pytest.fixture(scope="module")
def inputs():
    chance = np.random.default_rng(0)
    return {
        "latents": chance.standard_normal((ROWS, 3, 16, 16), np.float32),
        "timestep": np.arange(ROWS, dtype=np.float32)[:, np.newaxis] * 80,
        "context": chance.standard_normal((ROWS, TOKENS, WIDTH), np.float32),
    }


def test_a_row_is_the_same_to_the_last_bit_alone_and_in_every_batch(network, inputs):
    graph = to_onnx.export(network, UNET, {name: array[:2] for name, array in inputs.items()})
    with parity.serve(graph, make_config(graph, "unet", max_batch_size=ROWS, instances=1)) as served:
        alone = served.in_batches(inputs, 1)["prediction"]
        for size in (2, 3, 5, 8, ROWS):
            np.testing.assert_array_equal(served.in_batches(inputs, size)["prediction"], alone)
    expected = parity.torch_predict(network, UNET)(inputs)["prediction"]
    np.testing.assert_allclose(alone, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["timestep", "context"])
def test_what_the_network_is_told_matters(network, inputs, name):
    predict = parity.torch_predict(network, UNET)
    other = predict({**inputs, name: inputs[name][::-1].copy()})["prediction"]
    assert np.abs(other - predict(inputs)["prediction"]).max() > 1e-2


class Nothing(nn.Module):
    """Predicts zeros, whatever it is asked."""

    def forward(self, noisy, *_):
        return torch.zeros_like(noisy)


@pytest.mark.parametrize("kind", ["epsilon", "v", "sample"])
def test_a_network_that_learned_it_all_gives_samplers_the_picture(kind):
    sampling = SAMPLING.model_copy(update={"prediction": kind})
    made = Denoiser(nn.Identity(), Nothing(), nn.Identity(), sampling)
    latents, noise, timesteps = (
        torch.randn(4, 3, 2, 2),
        torch.randn(4, 3, 2, 2),
        torch.tensor([[1], [250], [600], [900]]),
    )
    predicted, weighted = made(latents, torch.zeros(4, 1), noise, timesteps)
    assert not predicted.any()
    wanted = made.wanted(latents, noise, timesteps)
    ratio = weighted / wanted
    assert ratio.std(dim=(1, 2, 3)).max() < 1e-5, "one weight for each row"
    assert (ratio[0] > 2 * ratio[3]).all() == (kind == "sample")
    noisy, levels = made.mixed(latents, noise, timesteps), sampling.schedule.levels()
    for i, step in enumerate(timesteps.flatten().tolist()):
        found = without_noise(wanted[i].double().numpy(), noisy[i].double().numpy(), levels[step], kind)
        np.testing.assert_allclose(found, latents[i], atol=1e-4)


def test_rows_are_noised_evenly_and_a_tenth_of_them_has_no_prompt(monkeypatch):
    null = np.array([[NULL, 0]])
    monkeypatch.setattr(denoising, "null_tokens", lambda count: np.repeat(null, count, axis=0))
    prompts = torch.arange(10, 10 + 3).reshape(1, 3, 1).expand(2000, 3, 2)
    latents = torch.zeros(2000, 1, 2, 2)
    first, again = (noised(latents, prompts, 1000, torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    _, tokens, noise, timesteps = first
    shares = {value: (tokens[:, 0] == value).float().mean().item() for value in (NULL, 10, 11, 12)}
    assert shares[NULL] == pytest.approx(0.1, abs=0.03)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert min(shares[10], shares[11], shares[12]) > 0.25
    assert timesteps.flatten().tolist() == [i // 2 for i in range(2000)], "each is as likely, in every batch"
    assert noise.std().item() == pytest.approx(1, abs=0.05)


def test_latents_have_variance_one_and_lead_back_to_the_picture():
    chance = np.random.default_rng(0)
    coarse = chance.integers(0, 256, (12, 8, 8, 3), np.uint8)
    pixels = coarse.repeat(4, axis=1).repeat(4, axis=2)  # 12 numbers a patch, of 192
    encode, decoding = principal_components(pixels)
    with torch.no_grad():
        latents = encode(torch.from_numpy(pixels))
        back = Pixels(decoding.network().eval())(latents).numpy()
    assert latents.shape == (12, CHANNELS, 32 // SCALE, 32 // SCALE)
    assert latents.square().mean(dim=(0, 2, 3)).sum().item() / CHANNELS == pytest.approx(1, abs=0.1)
    assert np.abs(back.astype(int) - pixels).max() <= 1
    assert back.dtype == np.uint8


PICTURES = np.random.default_rng(3).uniform(-1, 1, (4, 1, 2, 2))


class Knowing:
    """Graphs of a model that knows what each token looks like, and nothing else; `rows` counts what it was asked."""

    def __init__(self):
        self.rows = []

    def text(self, inputs):
        return {"context": inputs["tokens"][:, :, np.newaxis].astype(np.float32)}

    def unet(self, inputs):
        self.rows.append(len(inputs["latents"]))
        level = SAMPLING.schedule.levels()[inputs["timestep"].astype(int)][:, :, np.newaxis, np.newaxis]
        picture = PICTURES[inputs["context"][:, 0, 0].astype(int)]
        noise = (inputs["latents"] - level**0.5 * picture) / (1 - level) ** 0.5
        return {"prediction": (level**0.5 * noise - (1 - level) ** 0.5 * picture).astype(np.float32)}

    def decoder(self, inputs):
        return {"pixels": inputs["latents"].transpose(0, 2, 3, 1)}

    @property
    def graphs(self):
        return {"text": self.text, "unet": self.unet, "decoder": self.decoder}


def asked(count):
    return Asked(np.arange(count)[:, np.newaxis] % 3 + 1, np.zeros((1, 1), np.int64), range(count))


def test_what_is_drawn_is_what_was_asked_for_led_away_from_no_prompt():
    known, count = Knowing(), 10
    drawn = draw(known.graphs, SAMPLING, (1, 2, 2), asked(count))
    wanted = PICTURES[0] + 2 * (PICTURES[asked(count).tokens[:, 0]] - PICTURES[0])
    np.testing.assert_allclose(drawn, wanted.transpose(0, 2, 3, 1), atol=1e-3)
    assert known.rows == [16] * 8 + [4] * 8, "rows with and without the prompt share a batch"


def test_without_guidance_no_row_is_spent_on_no_prompt():
    known = Knowing()
    drawn = draw(known.graphs, SAMPLING.model_copy(update={"guidance": 1.0}), (1, 2, 2), asked(3))
    np.testing.assert_allclose(drawn, PICTURES[[1, 2, 3]].transpose(0, 2, 3, 1), atol=1e-3)
    assert known.rows == [3] * 8


def test_measures_count_names_among_the_first_five_beside_the_emoji_themselves():
    drawn = {0.0: np.array([50, 2]), 1.0: np.array([5, 0]), 4.0: np.array([0, 4])}
    found = prompt_measures(np.array([0, 0]), drawn, 4.0, 100)
    values = {name: metric.value for name, metric in found.metrics.items()}
    assert values == {
        "prompt_in_top5": 1.0,
        "prompt_in_top1": 0.5,
        "unguided_in_top5": 0.5,
        "unprompted_in_top5": 0.5,
    }
    assert found.metrics["prompt_in_top1"].baseline == 1.0
    assert found.metrics["unprompted_in_top5"].baseline == 0.05
    assert found.tables[BY_GUIDANCE].rows[0] == ("0", 0.5, 0.0)


def test_padding_says_nothing_and_the_order_of_words_something():
    torch.manual_seed(0)
    words = Words(10, 4, 8, 2)
    context = words(torch.tensor([[5, 6, PAD, PAD], [6, 5, PAD, PAD]]))
    assert not context[:, 2:].any()
    assert context[:, :2].any(dim=2).all()
    assert (context[0, :2].sum(dim=0) - context[1, :2].sum(dim=0)).abs().max() > 1e-3
