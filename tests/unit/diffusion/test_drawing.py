"""Drawing with networks whose answers are known: whoever knows the noise gets the picture back, solvers come as near as
their papers say, and diffusers' schedulers go the same way.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from serving.diffusion.drawing import MOST_SEED, Drawing, Plan, Sampling, guided, noise
from serving.diffusion.schedule import Schedule
from serving.diffusion.solvers import ddpm, without_noise

SHAPE = (3, 4, 5)
SAMPLERS = ["ddim", "dpm-solver++", "ddpm"]
samplers = pytest.mark.parametrize("sampler", SAMPLERS)
predictions = pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
PICTURE = np.random.default_rng(1).uniform(-1, 1, SHAPE)


def sampling(**changes) -> Sampling:
    return Sampling(**{"schedule": Schedule(kind="linear"), **changes})


def draw(drawing: Drawing, network) -> Drawing:
    """To the end. network: what it predicts of a sample and its level."""
    while not drawing.done:
        drawing = drawing.step(network(drawing.sample, drawing.plan.levels[drawing.count]))
    return drawing


def knowing(picture, kind: str):
    """A network that knows the picture, and so the noise on it."""

    def network(sample, level):
        left = (sample - level**0.5 * picture) / (1 - level) ** 0.5
        return {"epsilon": left, "v": level**0.5 * left - (1 - level) ** 0.5 * picture, "sample": picture}[kind]

    return network


@samplers
@predictions
@pytest.mark.parametrize("steps", [1, 2, 3, 20, 250])
@pytest.mark.parametrize("schedule", ["linear", "scaled-linear", "cosine"])
def test_who_knows_the_noise_gets_the_picture_back(sampler, prediction, steps, schedule):
    settings = sampling(schedule=Schedule(kind=schedule), sampler=sampler, prediction=prediction, steps=steps)
    drawing = Drawing.begin(settings.plan(), SHAPE, seed=5)
    drawn = draw(drawing, knowing(PICTURE, prediction))
    assert drawn.count == steps
    np.testing.assert_allclose(drawn.sample, PICTURE, atol=1e-9)
    np.testing.assert_allclose(drawn.clean, PICTURE, atol=1e-9)


@given(
    level=st.floats(1e-4, 1 - 1e-4),
    kind=st.sampled_from(["epsilon", "v", "sample"]),
    seed=st.integers(0, MOST_SEED),
)
def test_each_kind_of_prediction_says_what_the_picture_is(level, kind, seed):
    sample = level**0.5 * PICTURE + (1 - level) ** 0.5 * noise(seed, 0, SHAPE)
    found = without_noise(knowing(PICTURE, kind)(sample, level), sample, level, kind)
    np.testing.assert_allclose(found, PICTURE, atol=1e-9)


# Pictures whose numbers are normal, of a mean and deviation: the best prediction is known, and where each noise leads

MEAN, DEVIATION = 0.3, 0.5


def best(sample, level):
    return MEAN + level**0.5 * DEVIATION**2 / (level * DEVIATION**2 + 1 - level) * (sample - level**0.5 * MEAN)


def error(sampler: str, steps: int) -> float:
    """How far a solver ends from where the noise leads; levels are evenly spaced in log signal to noise."""
    ratios = np.linspace(-4, 1, steps + 1)
    levels = tuple((1 / (1 + np.exp(-2 * ratios))).tolist())
    drawing = Drawing.begin(Plan(sampler, "sample", None, tuple(range(steps)), levels), SHAPE, seed=2)
    first, last = ((level * DEVIATION**2 + 1 - level) ** 0.5 for level in (levels[0], levels[-1]))
    exact = levels[-1] ** 0.5 * MEAN + last / first * (drawing.sample - levels[0] ** 0.5 * MEAN)
    return float(np.abs(draw(drawing, best).sample - exact).max())


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpm-solver++", 2)])
def test_twice_the_steps_make_the_error_smaller_by_the_solvers_order(sampler, order):
    errors = [error(sampler, steps) for steps in (40, 80, 160)]
    ratios = np.log2(np.divide(errors[:-1], errors[1:]))
    assert ratios == pytest.approx([order, order], abs=0.2)


def test_with_few_steps_dpm_solver_is_much_nearer_than_ddim():
    assert error("dpm-solver++", 10) < error("ddim", 10) / 4


def test_the_ancestral_sampler_draws_pictures_as_they_are_spread():
    plan = sampling(sampler="ddpm", prediction="sample", steps=1000).plan()
    drawn = draw(Drawing.begin(plan, (3, 60, 60), seed=3), best).sample
    assert drawn.mean() == pytest.approx(MEAN, abs=0.02)
    assert drawn.std() == pytest.approx(DEVIATION, rel=0.03)


def test_the_ancestral_step_draws_what_was_before_the_noise():
    """By Bayes: what the clean picture says of it, and what the sample says of it, weighed by their precision."""
    level, following = 0.3, 0.7
    kept = level / following
    sample, fresh = np.full(SHAPE, 0.4), noise(1, 1, SHAPE)
    precision = 1 / (1 - following) + kept / (1 - kept)
    mean = (following**0.5 * PICTURE / (1 - following) + kept**0.5 * sample / (1 - kept)) / precision
    found = ddpm(sample, PICTURE, level, following, fresh)
    np.testing.assert_allclose(found, mean + precision**-0.5 * fresh, atol=1e-12)


# Beside diffusers


def odd_network(sample, timestep: int):
    """Any smooth function will do."""
    return np.sin(3 * sample) + 0.001 * timestep * sample


WAYS = list(
    itertools.product(
        [("ddim", "clean"), ("ddim", "first"), ("dpm-solver++", "clean")],
        [("leading", 0), ("leading", 1), ("trailing", 0)],
        [("epsilon", "epsilon"), ("v", "v_prediction")],
        [1, 2, 5, 8, 20, 50],  # of which there is a whole number in 1000, or theirs goes astray
    )
)
STABLE = {"kind": "scaled-linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_way_is_that_of_diffusers_schedulers(way):
    (sampler, ends), (spacing, offset), (prediction, theirs), steps = way
    options = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": theirs}
    options |= {"timestep_spacing": spacing, "steps_offset": offset}
    if sampler == "ddim":
        scheduler = DDIMScheduler(**options, clip_sample=False, set_alpha_to_one=ends == "clean")
    else:
        scheduler = DPMSolverMultistepScheduler(**options)
    scheduler.set_timesteps(steps)
    settings = sampling(
        schedule=Schedule(**STABLE), sampler=sampler, prediction=prediction, steps=steps, spacing=spacing,
        offset=offset, ends=ends,
    )  # fmt: skip
    drawing = Drawing.begin(settings.plan(), SHAPE, seed=11)
    sample = torch.from_numpy(drawing.sample)
    for timestep in scheduler.timesteps:
        assert drawing.timestep == timestep
        drawing = drawing.step(odd_network(drawing.sample, int(timestep)))
        output = torch.from_numpy(odd_network(sample.numpy(), int(timestep)))
        sample = scheduler.step(output, timestep, sample).prev_sample
        np.testing.assert_allclose(drawing.sample, sample.numpy(), atol=2e-4 * max(1, np.abs(drawing.sample).max()))
    assert drawing.done


# Chance


@given(seed=st.integers(0, MOST_SEED), step=st.integers(0, 1000))
def test_noise_is_that_of_its_seed_and_step(seed, step):
    found = noise(seed, step, SHAPE)
    assert (noise(seed, step, SHAPE) == found).all()
    assert (found.astype(np.float32) == found).all(), "networks see it as it is"
    assert not (noise(seed ^ 1, step, SHAPE) == found).any()
    assert not (noise(seed, step + 1, SHAPE) == found).any()


def test_noise_is_standard_normal():
    found = noise(4, 0, (100_000,))
    assert found.mean() == pytest.approx(0, abs=0.01)
    assert found.std() == pytest.approx(1, abs=0.01)


@samplers
def test_the_same_seed_draws_the_same_picture_to_the_bit_and_another_seed_another(sampler):
    plan = sampling(sampler=sampler).plan()
    drawn = [draw(Drawing.begin(plan, SHAPE, seed), best).sample for seed in (9, 9, 10)]
    assert (drawn[0] == drawn[1]).all()
    assert not (drawn[0] == drawn[2]).any()


def test_a_drawing_is_not_changed_by_a_step():
    drawing = Drawing.begin(sampling().plan(), SHAPE, seed=1)
    before = drawing.sample.copy()
    drawing.step(PICTURE)
    assert (drawing.sample == before).all()
    assert drawing.count == 0


# Settings


@samplers
def test_what_no_picture_can_be_is_cut_off(sampler):
    """The last step's guess is what is drawn where no noise is left."""
    plan = sampling(sampler=sampler, prediction="sample", clip=1.0).plan()
    drawn = draw(Drawing.begin(plan, SHAPE, 1), lambda *_: np.full(SHAPE, 3.0)).sample
    assert drawn == pytest.approx(np.ones(SHAPE))


def test_a_way_may_end_at_the_noise_of_the_first_timestep():
    first = Schedule(kind="linear").levels()[0]
    assert sampling(sampler="ddim", ends="first").plan().levels[-1] == first
    assert sampling(sampler="ddim", ends="clean").plan().levels[-1] == 1
    assert sampling(sampler="dpm-solver++", ends="first").plan().levels[-1] == 1


def test_more_steps_than_there_are_is_an_error():
    settings = sampling(schedule=Schedule(kind="linear", steps=50), sampler="ddim")
    assert len(settings.plan(steps=50).timesteps) == 50
    with pytest.raises(ValueError, match="51 steps do not fit among the 50"):
        settings.plan(steps=51)


def test_guidance_leads_from_the_prediction_without_the_prompt_to_that_with_it_and_beyond():
    null, wanted = np.float32([0, 1]), np.float32([1, 3])
    assert guided(null, wanted, 0).tolist() == [0, 1]
    assert guided(null, wanted, 1).tolist() == [1, 3]
    assert guided(null, wanted, 4).tolist() == [4, 9]
