"""One loop: reproducible, stopped in time, with the best weights at the end."""

import contextlib
import math
import os
import random
import subprocess
import sys
import termios
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from training_rig import RECIPE, Tiny, same_weights, splits

from exporters import augmentation, learning_curve
from exporters.data.splits import Rows, Splits
from exporters.errors import TrainingDiverged
from exporters.family import Recipe
from exporters.training import Options, train
from exporters.training.batches import batches_of, shuffled, tensors_of
from exporters.training.chance import deterministic
from exporters.training.schedule import learning_rate


@pytest.fixture
def data() -> Splits:
    return splits()


def test_the_same_seed_gives_the_same_history_and_weights(data):
    first, second = (train(Tiny(), data, RECIPE, seed=5) for _ in range(2))
    assert first.history == second.history
    assert same_weights(first.network, second.network)


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


def rates_of(schedule):
    recipe = Recipe(epochs=1, batch_size=1, optimizer="sgd", learning_rate=1.0, schedule=schedule)
    return [learning_rate(recipe, step, 100) for step in range(100)]


def test_a_constant_rate_stays():
    assert set(rates_of("constant")) == {1.0}


def test_steps_fall_tenfold_at_half_and_at_three_quarters():
    rates = rates_of("step")
    assert rates[:50] == [1.0] * 50
    assert rates[50:75] == pytest.approx([0.1] * 25)
    assert rates[75:] == pytest.approx([0.01] * 25)


def test_one_cycle_is_torchs():
    weights = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=1.0, momentum=0.9)
    # torch's peak is at step 0.3 * total - 1 and its end at the last step: one more step of ours before each
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=101, pct_start=0.3 + 0.7 / 101)
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates_of("one-cycle") == pytest.approx(expected, abs=1e-6)


class Two(Tiny):
    """Two outputs, and targets by name."""

    def network(self):
        return Heads()

    def loss(self, scores, targets):
        above, sums = scores
        assert above.dtype == sums.dtype == torch.float32
        return nn.functional.cross_entropy(above, targets["above"]) + (sums[:, 0] - targets["sum"]).square().mean()

    def score(self, scores, targets):
        assert set(targets) == {"above", "sum"}
        return (scores[0].argmax(1) == targets["above"]).float().mean()


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.above, self.sums = nn.Linear(2, 2), nn.Linear(2, 1)

    def forward(self, numbers):
        return self.above(numbers), self.sums(numbers)


def by_name(rows):
    return Rows(rows.inputs, {"above": rows.targets, "sum": rows.inputs["points"].sum(axis=1)})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_targets_may_be_several_and_so_may_outputs(data, precision):
    named = Splits(data.card, by_name(data.test), train=by_name(data.train), validation=by_name(data.validation))
    assert len(named.train) == 129
    recipe = replace(RECIPE, epochs=25, learning_rate=5e-2, patience=25, precision=precision)
    trained = train(Two(), named, recipe, seed=1)
    assert trained.best.validation_score > 0.9
    assert trained.best.validation_loss < 0.3


class Seeing(Tiny):
    """Notes the type of what the first layer gives, in training and in validation."""

    def network(self):
        self.seen = set()
        network = super().network()
        network[0].register_forward_hook(lambda module, _, out: self.seen.add((module.training, out.dtype)))
        return network


def test_half_precision_is_for_training_alone(data):
    family = Seeing()
    trained = train(family, data, replace(RECIPE, precision="bfloat16"), seed=1)
    assert family.seen == {(True, torch.bfloat16), (False, torch.float32)}
    assert {parameter.dtype for parameter in trained.network.parameters()} == {torch.float32}


def vector_of(network):
    return nn.utils.parameters_to_vector(network.parameters()).detach()


class Convolving(Tiny):
    """Notes how the kernels lie while it is trained."""

    def network(self):
        network = nn.Sequential(
            nn.Unflatten(1, (2, 1, 1)), nn.Conv2d(2, 8, 3, padding=1), nn.Flatten(), nn.Linear(8, 2)
        )
        self.last = []
        network[1].register_forward_hook(
            lambda layer, *_: self.last.append(layer.weight.is_contiguous(memory_format=torch.channels_last))
        )
        return network


def test_kernels_lie_with_channels_last_in_training_and_as_usual_afterwards(data):
    family = Convolving()
    trained = train(family, data, replace(RECIPE, ema=0.9), seed=1)
    assert all(family.last)
    assert trained.network[1].weight.is_contiguous()


class Steep(Tiny):
    def loss(self, scores, targets):
        return super().loss(scores, targets) * 1e4


def test_gradients_are_clipped(data):
    """With plain SGD a step is the rate times the gradient, so the network moves by no more than rate * norm a step."""
    recipe = replace(RECIPE, epochs=1, optimizer="sgd", momentum=0.0, weight_decay=0.0, schedule="constant")
    torch.manual_seed(1)
    before = vector_of(Steep().network())
    moved = [
        float((vector_of(train(Steep(), data, made, seed=1).network) - before).norm())
        for made in (recipe, replace(recipe, clip_norm=0.5))
    ]
    assert moved[1] <= 8 * 1e-2 * 0.5
    assert moved[0] > 100 * moved[1]


def test_the_average_is_kept_in_place_of_the_weights(data):
    """Two steps worked out by hand: the first weights are taken as they are, then 2/11 of the average stays."""
    family = Keeping()
    recipe = replace(RECIPE, epochs=1, batch_size=64, ema=0.5)
    trained = train(family, data, recipe, seed=1)
    first, second = family.after
    expected = first * (2 / 11) + second * (9 / 11)
    assert torch.allclose(trained.network[0].weight.detach(), expected, atol=1e-6)
    assert not torch.equal(trained.network[0].weight.detach(), second)


class Keeping(Tiny):
    """Notes the first layer's weights as each further batch, and then validation, finds them."""

    def network(self):
        self.after = []
        network = super().network()
        self.weight = network[0].weight
        return network

    def augment(self, inputs, generator):
        self.after.append(self.weight.detach().clone())
        return super().augment(inputs, generator)

    def score(self, scores, targets):
        self.after = [*self.after[1:], self.weight.detach().clone()] if len(self.after) == 2 else self.after
        return super().score(scores, targets)


def test_rows_are_not_copied_but_for_a_batch(data):
    (inputs,), targets = tensors_of(data.train)
    assert inputs.data_ptr() == data.train.inputs["points"].ctypes.data
    assert targets.data_ptr() == data.train.targets.ctypes.data
    chosen = shuffled(len(data.train), 16, torch.Generator().manual_seed(1))
    sizes = [len(batch[0][0]) for batch in batches_of(data.train, chosen, torch.device("cpu"))]
    assert sizes == [16] * 8  # and a last row, which batch norm could not take


class Diverging(Tiny):
    def loss(self, scores, targets):
        return super().loss(scores, targets) * math.inf


def test_a_loss_that_is_no_number_ends_the_training(data):
    with pytest.raises(TrainingDiverged, match=r"The loss of epoch 1 is not a number\. Train with a lower rate"):
        train(Diverging(), data, RECIPE, seed=1)


def test_elsewhere_than_on_a_terminal_each_epoch_has_a_line(data, capsys):
    trained = train(Tiny(), data, RECIPE, seed=1)
    lines = capsys.readouterr().err.splitlines()
    third = trained.history[2]
    assert len(lines) == 4
    losses = f"loss {third.train_loss:.4f}  validation loss {third.validation_loss:.4f}"
    assert lines[2].startswith(f"tiny: epoch 3/4  {losses}")
    assert f"accuracy {third.validation_score:.4f}" in lines[2]
    train(Tiny(), data, RECIPE, 1, Options(quiet=True))
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_shows_epoch_step_loss_and_score():
    """A real pseudo-terminal, on which another process trains."""
    program = "from training_rig import *; train(Tiny(), splits(), RECIPE, 1)"
    ours, theirs = os.openpty()
    termios.tcsetwinsize(ours, (24, 120))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", program], stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    last = shown.decode().rstrip().split("\r")[-1]
    assert "tiny epoch 4/4: 100%" in last
    assert "32/32" in last
    assert "accuracy=" in last


def test_augmentations_draw_where_their_generator_is():
    """torch refuses a generator of another device, and there may be no GPU here: what is asked for is what is seen."""
    pictures, generator = torch.rand(2, 1, 8, 8), torch.Generator().manual_seed(1)
    with torch.device("meta"):  # what is made without naming a device would come to lie there
        for change in (
            partial(augmentation.noise, deviation=0.1),
            partial(augmentation.invert, share=0.5),
            partial(augmentation.mirror, share=0.5),
            partial(augmentation.contrast, least=0.5),
        ):
            assert change(pictures, generator).device.type == "cpu"


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
