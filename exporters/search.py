"""Random search for a recipe: short trainings, judged by validation rows alone, those that fall behind cut off.

Why random and not a grid: https://jmlr.org/papers/v13/bergstra12a.html
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from exporters import training
from exporters.data.splits import Splits
from exporters.errors import SettingInvalid, TrainingDiverged
from exporters.family import Recipe, TrainedFamily
from exporters.search_space import DEFAULTS, LogUniform, Space

if TYPE_CHECKING:
    import optuna

SHORTER: Final = 3  # times fewer epochs than the recipe has
LEAST_EPOCHS: Final = 2
UNPRUNED: Final = 3  # first trials, which are trained to their end whatever they reach


@dataclass(frozen=True, slots=True)
class Trial:
    """One short training. `number` from 0; `found`: what was drawn; score: of validation rows, None if it diverged."""

    number: int
    state: Literal["complete", "pruned", "diverged"]
    recipe: Recipe
    found: Mapping[str, Any]
    score: float | None
    epochs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Searched:
    """The recipe to train in full, with what the best trial drew, and all trials in their order."""

    recipe: Recipe
    best: Trial
    trials: tuple[Trial, ...]


class _Pruned(Exception):
    """The trial's scores lie below the median of those before it."""


def search(
    family: TrainedFamily[Any, Any],
    data: Splits[Any],
    recipe: Recipe,
    seed: int,
    trials: int,
    *,
    fixed: Sequence[str] = (),
    on_trial: Callable[[Trial], object] = lambda _: None,
) -> Searched:
    """Trains `trials` times for a third of the epochs. The same seed draws the same recipes, the given one first.

    fixed: fields that are not searched. SettingInvalid: nothing is left. TrainingDiverged: in all trials.
    """
    space = _space(family, recipe, fixed)
    tried = []
    with _study(seed) as study:
        for _ in range(trials):
            tried.append(_try(study, space, family=family, data=data, recipe=recipe, seed=seed))
            on_trial(tried[-1])
    complete = [trial for trial in tried if trial.state == "complete" and trial.score is not None]
    if not complete:
        raise TrainingDiverged("No trial came to its end.", remedy="Search longer, or a family's own search_space.")
    best = max(complete, key=lambda trial: trial.score or 0.0)
    return Searched(replace(recipe, **best.found), best, tuple(tried))


def table(searched: Searched) -> str:
    """The trials as lines of columns, the best marked with a star."""
    names = list(searched.best.found)
    head = ["", "trial", "state", "score", "epochs", "seconds", *names]
    rows = [
        [
            "*" if trial is searched.best else "",
            str(trial.number),
            trial.state,
            "-" if trial.score is None else f"{trial.score:.4f}",
            str(trial.epochs),
            f"{trial.seconds:.1f}",
            *(
                f"{trial.found[name]:.3g}" if isinstance(trial.found[name], float) else str(trial.found[name])
                for name in names
            ),
        ]
        for trial in searched.trials
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in [head, *rows])


def as_settings(found: Mapping[str, Any]) -> str:
    """What was drawn, as options of `exporters train`."""
    return " ".join(f"--set {name}={value}" for name, value in found.items())


def _space(family: TrainedFamily[Any, Any], recipe: Recipe, fixed: Sequence[str]) -> Space:
    whole = family.search_space or DEFAULTS[recipe.optimizer]
    space = {name: values for name, values in whole.items() if name not in fixed}
    if not space:
        remedy = f"Leave one of {', '.join(whole)} free of --set."
        raise SettingInvalid("All fields that a search draws are set already.", remedy=remedy)
    return space


def _draw(trial: optuna.Trial, space: Space, recipe: Recipe) -> dict[str, Any]:
    """Values for the space's fields. The first trial is the recipe as it is: a search ends with nothing worse."""
    if trial.number == 0:
        return {name: getattr(recipe, name) for name in space}
    return {
        name: trial.suggest_float(name, values.low, values.high, log=True)
        if isinstance(values, LogUniform)
        else trial.suggest_categorical(name, values.values)
        for name, values in space.items()
    }


def _try(
    study: optuna.Study,
    space: Space,
    *,
    family: TrainedFamily[Any, Any],
    data: Splits[Any],
    recipe: Recipe,
    seed: int,
) -> Trial:
    """One trial, told to the study."""
    from optuna.trial import TrialState

    asked = study.ask()
    found = _draw(asked, space, recipe)
    short = replace(recipe, **found, epochs=_shortened(recipe.epochs))
    scores: list[float] = []

    def watch(epoch: training.Epoch) -> None:
        scores.append(epoch.validation_score)
        asked.report(epoch.validation_score, epoch.number)
        if asked.should_prune():
            raise _Pruned

    started_s = time.perf_counter()
    state: Literal["complete", "pruned", "diverged"] = "complete"
    score: float | None = None
    try:
        score = training.train(
            family, data, short, seed, training.Options(quiet=True, on_epoch=watch)
        ).best.validation_score
        study.tell(asked, score)
    except _Pruned:
        state, score = "pruned", max(scores)
        study.tell(asked, state=TrialState.PRUNED)
    except TrainingDiverged:
        state = "diverged"
        study.tell(asked, state=TrialState.FAIL)
    return Trial(asked.number, state, short, found, score, len(scores), round(time.perf_counter() - started_s, 2))


def _shortened(epochs: int) -> int:
    return min(max(math.ceil(epochs / SHORTER), LEAST_EPOCHS), epochs)


@contextmanager
def _study(seed: int) -> Iterator[optuna.Study]:
    """A study in memory that says nothing itself."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED),
        )
    finally:
        optuna.logging.set_verbosity(verbosity)
