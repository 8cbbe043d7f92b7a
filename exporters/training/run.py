"""One training on its way: all it consists of hangs on one `Run`, which can be written down and read again."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from exporters.data.splits import Rows, Splits
from exporters.errors import TrainingDiverged
from exporters.family import Learner, Recipe
from exporters.training import batches
from exporters.training.chance import Chance
from exporters.training.optimizer import make_optimizer, moving_average
from exporters.training.schedule import learning_rate


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training rows. `number` from 1; losses and score are means over rows."""

    number: int
    learning_rate: float
    train_loss: float
    validation_loss: float
    validation_score: float
    seconds: float = field(default=0.0, compare=False)


@dataclass(slots=True)
class Run:
    """A network on its device, its optimizer, its chance, its average if the recipe wants one, and what came of it."""

    family: Learner[Any, Any]
    network: nn.Module
    data: Splits[Any]
    recipe: Recipe
    chance: Chance
    on_step: Callable[[], object] = lambda: None
    history: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: torch.optim.Optimizer = field(init=False)
    average: AveragedModel | None = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = make_optimizer(self.network, self.recipe)
        self.average = moving_average(self.network, self.recipe.ema) if self.recipe.ema is not None else None

    @property
    def best(self) -> Epoch | None:
        """The epoch of the least validation loss, the first of equals."""
        return min(self.history, key=lambda epoch: epoch.validation_loss, default=None)

    @property
    def finished(self) -> bool:
        waited = len(self.history) - self.best.number if self.best else 0
        return len(self.history) >= self.recipe.epochs or waited >= self.recipe.patience

    @property
    def steps_per_epoch(self) -> int:
        """Of all epochs: a last batch of one row is left out."""
        full, rest = divmod(len(self.data.train), self.recipe.batch_size)
        return max(full + (rest > 1), 1)

    def advance(self) -> Epoch:
        """One epoch: training, validation, and a copy of the weights when they are the best so far.

        TrainingDiverged: a loss is not a number any more.
        """
        started_s = time.perf_counter()
        train_loss, rate = self._train_epoch()
        loss, score = self._validate()
        epoch = Epoch(len(self.history) + 1, rate, train_loss, loss, score, round(time.perf_counter() - started_s, 3))
        if not math.isfinite(train_loss + loss):
            remedy = "Train with a lower rate or shorter steps, such as --set clip_norm=1."
            raise TrainingDiverged(f"The loss of epoch {epoch.number} is not a number.", remedy=remedy)
        self.history.append(epoch)
        if self.best is epoch:
            self.best_weights = copy.deepcopy(self._judged.state_dict())
        return epoch

    def finish(self) -> Epoch:
        """The best weights into the network, and the network on the CPU, in evaluation mode. Gives their epoch."""
        if self.best is None:
            raise ValueError("no epoch has been run")
        self.network.load_state_dict(self.best_weights)
        self.network.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
        return self.best

    def state(self) -> dict[str, Any]:
        """Where the run stands after an epoch, as tensors and plain types."""
        return {
            "network": dict(self.network.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "average": dict(self.average.state_dict()) if self.average else None,
            "chance": self.chance.state(),
            "history": [asdict(epoch) for epoch in self.history],
            "best_weights": dict(self.best_weights),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from where `state` was written, by a run of the same family, data, recipe and seed."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.chance.restore(state["chance"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best_weights = state["best_weights"]

    @property
    def _judged(self) -> nn.Module:
        """What is validated and kept."""
        return self.average.module if self.average else self.network

    def _train_epoch(self) -> tuple[float, float]:
        """Mean loss, and the learning rate of the last step."""
        device, steps = self.chance.device, self.recipe.epochs * self.steps_per_epoch
        chosen = batches.shuffled(len(self.data.train), self.recipe.batch_size, self.chance.order)
        done, rate, seen = len(self.history) * len(chosen), 0.0, 0
        total = torch.zeros((), dtype=torch.float64, device=device)  # asked for once: each asking waits for a GPU
        self.network.train()
        for i, (inputs, targets) in enumerate(batches.batches_of(self.data.train, chosen, device)):
            rate = learning_rate(self.recipe, done + i, steps)
            loss = self._step(inputs, targets, rate)
            total += loss * len(chosen[i])
            seen += len(chosen[i])
            self.on_step()
        return float(total) / seen, rate

    def _step(self, inputs: tuple[Tensor, ...], targets: Any, rate: float) -> Tensor:
        """Changes the weights for one batch; its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs = self.family.augment(inputs, self.chance.changes)
        half = self.recipe.precision == "bfloat16"
        with torch.autocast(self.chance.device.type, torch.bfloat16, enabled=half):
            scores = self.network(*inputs)
        loss = self.family.loss(batches.each(scores, batches.single), targets)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch says no types here
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.network)
        return loss.detach()

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Loss and score in float32, which is what will be served."""
        rows: Rows[Any] = self.data.validation
        device, network = self.chance.device, self._judged.eval()
        chosen = batches.in_order(len(rows), self.recipe.batch_size)
        loss = torch.zeros((), dtype=torch.float64, device=device)
        score = torch.zeros_like(loss)
        for numbers, (inputs, targets) in zip(chosen, batches.batches_of(rows, chosen, device), strict=True):
            scores = network(*inputs)
            loss += self.family.loss(scores, targets) * len(numbers)
            score += self.family.score(scores, targets) * len(numbers)
        return float(loss) / len(rows), float(score) / len(rows)
