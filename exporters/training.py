"""The one training loop: seeded, watched, stopped when the validation loss no longer falls.

Everything a run consists of (network, optimizer, generator, epoch, best weights) hangs on one `_Run`.
"""

from __future__ import annotations

import copy
import math
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from exporters.data.splits import Rows, Splits
from exporters.family import Recipe, TrainedFamily

# Sums depend on how many threads share them, so the number belongs to the recipe, not to the machine.
THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training rows. `number` from 1; losses and score are means over rows."""

    number: int
    learning_rate: float
    train_loss: float
    validation_loss: float
    validation_score: float


@dataclass(frozen=True, slots=True)
class Trained:
    """The network with its best epoch's weights, in evaluation mode, and how it got there."""

    network: nn.Module
    history: tuple[Epoch, ...]
    best: Epoch
    seconds: float


def train(family: TrainedFamily, data: Splits, recipe: Recipe, seed: int) -> Trained:
    """Trains a fresh network of the family. The same seed, recipe and rows give the same weights on one machine."""
    from tqdm import tqdm

    started_s = time.perf_counter()
    with deterministic(seed):
        run = _Run(family, family.network(), data, recipe, torch.Generator().manual_seed(seed))
        with tqdm(total=recipe.epochs, desc=family.model, unit="epoch", disable=None) as bar:
            while not run.finished:
                epoch = run.advance()
                bar.set_postfix(loss=f"{epoch.validation_loss:.3f}", score=f"{epoch.validation_score:.3f}")
                bar.update()
        best = run.restore_best()
    return Trained(run.network.eval(), tuple(run.history), best, time.perf_counter() - started_s)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of step `step` of `steps`: a linear rise to the recipe's peak, then flat or a half cosine down to 0.

    Source of the cosine: https://arxiv.org/abs/1608.03983
    """
    rise = recipe.warm_up * steps
    if step < rise:
        return recipe.learning_rate * (step + 1) / (rise + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seeds python, numpy and torch, and holds torch to reproducible algorithms; all is put back afterwards."""
    python, legacy, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - for libraries that still draw from it
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)
            np.random.set_state(legacy)  # noqa: NPY002
            random.setstate(python)


@dataclass(slots=True)
class _Run:
    """One training on its way."""

    family: TrainedFamily
    network: nn.Module
    data: Splits
    recipe: Recipe
    generator: torch.Generator
    history: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    optimizer: torch.optim.Optimizer = field(init=False)
    best_weights: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.optimizer = _optimizer(self.network, self.recipe)

    @property
    def finished(self) -> bool:
        waited = len(self.history) - self.best.number if self.best else 0
        return len(self.history) >= self.recipe.epochs or waited >= self.recipe.patience

    def advance(self) -> Epoch:
        """One epoch: training, validation, and a copy of the weights when they are the best so far."""
        train_loss, rate = self._train_epoch()
        loss, score = self._validate()
        epoch = Epoch(len(self.history) + 1, rate, train_loss, loss, score)
        self.history.append(epoch)
        if self.best is None or epoch.validation_loss < self.best.validation_loss:
            self.best = epoch
            self.best_weights = copy.deepcopy(self.network.state_dict())
        return epoch

    def restore_best(self) -> Epoch:
        if self.best is None:
            raise ValueError("no epoch has been run")
        self.network.load_state_dict(self.best_weights)
        return self.best

    def _train_epoch(self) -> tuple[float, float]:
        """Mean loss, and the learning rate of the last step."""
        inputs, targets = _tensors(self.data.train)
        batches = torch.split(torch.randperm(len(targets), generator=self.generator), self.recipe.batch_size)
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches = batches[:-1]  # batch norm cannot train on one row
        done, rate, total = len(self.history) * len(batches), 0.0, 0.0
        self.network.train()
        for i, rows in enumerate(batches):
            rate = learning_rate(self.recipe, done + i, self.recipe.epochs * len(batches))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            batch = self.family.augment(tuple(tensor[rows] for tensor in inputs), self.generator)
            loss = self.family.loss(self.network(*batch), targets[rows])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch says no types here
            self.optimizer.step()
            total += float(loss.detach()) * len(rows)
        return total / sum(len(rows) for rows in batches), rate

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        inputs, targets = _tensors(self.data.validation)
        self.network.eval()
        loss, score = 0.0, 0.0
        for rows in torch.split(torch.arange(len(targets)), self.recipe.batch_size):
            scores = self.network(*(tensor[rows] for tensor in inputs))
            loss += float(self.family.loss(scores, targets[rows])) * len(rows)
            score += float(self.family.score(scores, targets[rows])) * len(rows)
        return loss / len(targets), score / len(targets)


def _tensors(rows: Rows) -> tuple[tuple[Tensor, ...], Tensor]:
    """Inputs in the order of the task's signature, and targets, sharing the arrays' memory."""
    return tuple(torch.from_numpy(array) for array in rows.inputs.values()), torch.from_numpy(rows.targets)


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay falls on matrices and kernels alone: biases and norms have nothing to overfit with."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)  # Adam, with the decay beside the gradient
