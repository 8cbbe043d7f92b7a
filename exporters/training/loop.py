"""From a family, its rows and a recipe to a trained network: begin or go on, an epoch at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exporters.data.splits import Splits
from exporters.errors import CheckpointRefused, TrainingStopped
from exporters.family import Learner, Recipe
from exporters.training.chance import Chance, deterministic
from exporters.training.checkpoint import ANEW, Checkpoint
from exporters.training.progress import Progress
from exporters.training.run import Epoch, Run


@dataclass(frozen=True, slots=True)
class Options:
    """What changes nothing about the weights. checkpoint: a folder, or None to write none; resume: go on from there.

    on_epoch: is called after each epoch and may raise to end the training.
    """

    checkpoint: Path | None = None
    resume: bool = False
    quiet: bool = False
    on_epoch: Callable[[Epoch], object] = lambda _: None


@dataclass(frozen=True, slots=True)
class Trained:
    """The network with its best epoch's weights, in evaluation mode, and how it got there.

    device: such as `cpu`; seconds: of all its epochs, of which earlier_s were before it was resumed.
    """

    network: nn.Module
    history: tuple[Epoch, ...]
    best: Epoch
    seconds: float
    device: str = "cpu"
    threads: int = 1
    earlier_s: float = 0.0


def train(
    family: Learner[Any, Any], data: Splits[Any], recipe: Recipe, seed: int, options: Options | None = None
) -> Trained:
    """Trains a fresh network of the family. The same seed, recipe and rows give the same weights on one machine's CPU.

    A GPU is used when torch sees one. CheckpointRefused: `resume`, and the folder's run is another one or damaged.
    TrainingStopped: Ctrl-C. TrainingDiverged: a loss is not a number.
    """
    options = options or Options()
    started_s = time.perf_counter()
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    with deterministic(seed, device, recipe.threads), ExitStack() as stack:
        network = _arranged(family.network()).to(device)
        if device.type != "cpu":
            stack.enter_context(device)  # so that what families make in their losses is made where the batch is
        run = Run(family, network, data, recipe, Chance(seed, device))
        checkpoint = None
        if options.checkpoint is not None:
            checkpoint = stack.enter_context(Checkpoint.open(options.checkpoint, _identity(run)))
            if options.resume:
                _restore(run, checkpoint)
        earlier_s = sum(epoch.seconds for epoch in run.history)
        _advance(run, checkpoint, options)
        best = run.finish()
        threads = torch.get_num_threads()
    seconds = earlier_s + time.perf_counter() - started_s
    return Trained(run.network, tuple(run.history), best, seconds, str(device), threads, earlier_s)


def _advance(run: Run, checkpoint: Checkpoint | None, options: Options) -> None:
    """Epoch after epoch until the run is finished, each shown and written down."""
    with Progress(run, quiet=options.quiet) as progress, _stoppable(run, checkpoint):
        run.on_step = progress.step
        while not run.finished:
            epoch = run.advance()
            if checkpoint:
                checkpoint.write(run.state())
            progress.show(epoch)
            options.on_epoch(epoch)


def _restore(run: Run, checkpoint: Checkpoint) -> None:
    state = checkpoint.read()
    try:
        run.restore(state)
    except (KeyError, RuntimeError, TypeError, ValueError):  # what torch says of tensors that do not fit
        raise CheckpointRefused("The family's network has changed since the checkpoint.", remedy=ANEW) from None


@contextmanager
def _stoppable(run: Run, checkpoint: Checkpoint | None) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        remedy = "Nothing was kept."
        if checkpoint and run.history:
            remedy = "Run the same command with --resume to go on."
        elif not checkpoint:
            remedy += " With --checkpoint FOLDER it could go on later."
        raise TrainingStopped(f"Stopped after {len(run.history)} whole epochs.", remedy=remedy) from None


def _identity(run: Run) -> dict[str, Any]:
    """What must be equal for a run to go on where another stopped."""
    return {
        "model": run.family.model,
        "seed": run.chance.seed,
        "data": run.data.card.digest,
        "rows": len(run.data.train),
        "device": run.chance.device.type,
        **{f"recipe.{name}": value for name, value in asdict(run.recipe).items()},
    }


def _arranged(network: nn.Module) -> nn.Module:
    """Kernels of convolutions with their channels last, as pictures come: half the processor's time of a small CNN."""
    convolutional = any(isinstance(layer, nn.Conv2d) for layer in network.modules())
    return network.to(memory_format=torch.channels_last) if convolutional else network  # type: ignore[call-overload]
