"""Noise schedules and where on them pictures are drawn: formulas written out, and diffusers' schedulers beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.diffusion.schedule import Schedule, timesteps

STABLE = {"kind": "scaled-linear", "beta_start": 0.00085, "beta_end": 0.012}
THEIRS = {"linear": "linear", "scaled-linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
KINDS = [{"kind": "linear"}, STABLE, {"kind": "cosine"}]


def scheduler(of, **settings):
    """One of diffusers', which is to say it is driven as ours."""
    given = dict(settings)
    given["beta_schedule"] = THEIRS[given.pop("kind")]
    return of(num_train_timesteps=1000, **{"beta_start": 1e-4, "beta_end": 0.02, **given})


@pytest.mark.parametrize("settings", KINDS, ids=[one["kind"] for one in KINDS])
def test_levels_are_those_of_diffusers(settings):
    expected = scheduler(DDIMScheduler, **settings).alphas_cumprod.numpy()
    np.testing.assert_allclose(Schedule(**settings).levels(), expected, rtol=2e-4)


def test_levels_are_products_of_what_each_step_keeps():
    assert Schedule(kind="linear", steps=3, beta_start=0.1, beta_end=0.3).levels() == pytest.approx(
        [0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7]
    )
    half = Schedule(kind="scaled-linear", steps=3, beta_start=0.04, beta_end=0.16).levels()
    assert half == pytest.approx([0.96, 0.96 * (1 - 0.09), 0.96 * (1 - 0.09) * 0.84])


def test_the_cosine_falls_as_the_cosine_squared():
    levels = Schedule(kind="cosine", steps=100).levels()

    def height(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    assert levels[:99] == pytest.approx([height((i + 1) / 100) / height(0) for i in range(99)])
    assert 0 < levels[99] < levels[98]


@given(st.sampled_from(["linear", "scaled-linear", "cosine"]), st.integers(2, 2000))
def test_noise_only_grows(kind, steps):
    levels = Schedule(kind=kind, steps=steps).levels()
    assert len(levels) == steps
    assert (np.diff(levels) < 0).all()
    assert 0 < levels[-1] < levels[0] < 1


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "quadratic"},
        {"kind": "linear", "steps": 0},
        {"kind": "linear", "beta_start": 0.02, "beta_end": 0.01},
        {"kind": "linear", "beta_start": 0.0},
        {"kind": "linear", "beta_end": 1.0},
        {"kind": "linear", "noise": 1},
    ],
)
def test_what_is_no_schedule_is_refused(settings):
    with pytest.raises(ValidationError):
        Schedule(**settings)


@pytest.mark.parametrize("count", [1, 2, 7, 10, 20, 50, 333])
@pytest.mark.parametrize(("spacing", "offset"), [("leading", 0), ("leading", 1), ("trailing", 0), ("linspace", 0)])
@pytest.mark.parametrize(
    ("sampler", "kind"),
    [("ddim", DDIMScheduler), ("ddpm", DDPMScheduler), ("dpm-solver++", DPMSolverMultistepScheduler)],
    ids=["ddim", "ddpm", "dpm-solver++"],
)
def test_timesteps_are_those_of_diffusers(sampler, kind, spacing, offset, count):
    theirs = scheduler(kind, kind="linear", timestep_spacing=spacing, steps_offset=offset)
    theirs.set_timesteps(count)
    expected = theirs.timesteps.tolist()
    if spacing == "linspace" and expected == [0]:  # where there is no noise, and nothing to draw of
        expected = [999]
    assert timesteps(1000, count, spacing, offset, sampler).tolist() == expected


@given(
    total=st.integers(1, 1500),
    count=st.integers(1, 200),
    spacing=st.sampled_from(["leading", "trailing", "linspace"]),
    offset=st.integers(0, 3),
    sampler=st.sampled_from(["ddim", "ddpm", "dpm-solver++"]),
)
def test_timesteps_are_of_the_schedule_and_go_towards_the_picture(total, count, spacing, offset, sampler):
    found = timesteps(total, count, spacing, offset, sampler)
    assert found.shape == (count,)
    assert found.min() >= 0
    assert found.max() < total
    assert (np.diff(found) <= 0).all()
    if spacing != "leading":
        assert found[0] == total - 1
    if count < total // 4:
        assert (np.diff(found) < 0).all()
