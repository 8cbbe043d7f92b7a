"""One loop: reproducible, stopped in time, with the best weights at the end."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from exporters import learning_curve
from exporters.data.splits import Rows, Splits
from exporters.family import Recipe
from exporters.training import train
from exporters.training.chance import deterministic
from exporters.training.schedule import learning_rate
from serving.repository.manifest import Data

RECIPE = Recipe(epochs=4, batch_size=16, optimizer="adam", learning_rate=1e-2, weight_decay=1e-2)


class Tiny:
    """Two numbers in, two classes out, with dropout so that chance has a part."""

    model = "tiny"
    score_name = "accuracy"

    def network(self):
        return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))

    def augment(self, inputs, generator):
        return (inputs[0] + 0.1 * torch.randn(inputs[0].shape, generator=generator),)

    def loss(self, scores, targets):
        return nn.functional.cross_entropy(scores, targets)

    def score(self, scores, targets):
        return (scores.argmax(1) == targets).float().mean()


def rows(count: int, seed: int) -> Rows:
    points = np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)
    return Rows({"points": points}, (points[:, 0] > points[:, 1]).astype(np.int64))


@pytest.fixture
def data() -> Splits:
    return Splits(Data(name="points", source="", licence=""), rows(32, 3), train=rows(129, 1), validation=rows(32, 2))


def test_the_same_seed_gives_the_same_history_and_weights(data):
    first, second = (train(Tiny(), data, RECIPE, seed=5) for _ in range(2))
    assert first.history == second.history
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_another_seed_gives_another_history(data):
    assert train(Tiny(), data, RECIPE, seed=5).history != train(Tiny(), data, RECIPE, seed=6).history


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_it_learns(data, optimizer):
    recipe = Recipe(epochs=25, batch_size=16, optimizer=optimizer, learning_rate=5e-2, warm_up=0.1, patience=25)
    assert train(Tiny(), data, recipe, seed=1).best.validation_score > 0.9


def test_stopping_early_brings_the_best_weights_back(data):
    contrary = Rows(data.validation.inputs, 1 - data.validation.targets)  # the more is learnt, the worse it fits
    recipe = Recipe(epochs=20, batch_size=16, optimizer="adam", learning_rate=1e-2, patience=3)
    trained = train(Tiny(), Splits(data.card, data.test, train=data.train, validation=contrary), recipe, seed=1)
    assert len(trained.history) == trained.best.number + 3 < 20
    assert trained.best == min(trained.history, key=lambda epoch: epoch.validation_loss)
    with torch.no_grad():
        scores = trained.network(torch.from_numpy(contrary.inputs["points"]))
    loss = Tiny().loss(scores, torch.from_numpy(contrary.targets))
    assert float(loss) == pytest.approx(trained.best.validation_loss, abs=1e-6)


def test_the_rate_rises_and_then_falls_to_nothing():
    recipe = Recipe(epochs=1, batch_size=1, optimizer="sgd", learning_rate=1.0, warm_up=0.1)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001
    constant = Recipe(epochs=1, batch_size=1, optimizer="sgd", learning_rate=1.0, schedule="constant")
    assert {learning_rate(constant, step, 100) for step in range(100)} == {1.0}


def test_the_program_around_it_keeps_its_own_chance():
    random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), torch.rand(1)
    random.seed(1)
    torch.manual_seed(1)
    with deterministic(9):
        random.random()
        torch.rand(3)
    assert (random.random(), torch.rand(1)) == expected
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_curve_is_a_picture(data):
    picture = learning_curve.draw(train(Tiny(), data, RECIPE, seed=1), "tiny")
    assert picture.startswith(b"\x89PNG")
    assert b"Software" not in picture
    assert len(picture) > 5000
