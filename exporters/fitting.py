"""Which recipe a trained family is trained with: its own, what the caller says, a search. And where checkpoints lie.

With a search, each trial has its line in the log of runs, marked by `trial`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from exporters import records, runs, training
from exporters.data.splits import Splits
from exporters.errors import SettingInvalid, TrainingDiverged, TrainingStopped
from exporters.family import Family, Recipe, TrainedFamily
from exporters.options import Options
from exporters.overrides import override
from exporters.search import Trial, as_settings, search, table
from exporters.training import checkpoint

FOLDER: Final = Path("checkpoints")  # in the working directory, as the repository and the log of runs


def choose(family: Family[Any], options: Options) -> Recipe | None:
    """The recipe before any search; None where nothing is trained. SettingInvalid: options that cannot hold."""
    if isinstance(family, TrainedFamily):
        if options.resume and folder_of(family, options) is None:
            raise SettingInvalid("Quick runs write no checkpoints by themselves.", remedy="Name a --checkpoint.")
        return override(family.quick_recipe if options.quick else family.recipe, options.settings)
    if options.settings or options.trials or options.checkpoint or options.resume:
        remedy = "Leave --set, --search, --checkpoint and --resume away."
        raise SettingInvalid(f"{family.model} has shipped weights: nothing is trained.", remedy=remedy)
    return None


def fit(
    family: TrainedFamily[Any, Any], data: Splits[Any], recipe: Recipe, options: Options
) -> tuple[Recipe, training.Trained]:
    """Searches if that is asked for, then trains in full. The recipe that was used, and what came of it.

    A training that diverged has its line in the log of runs too, with `failed`.
    """
    folder = folder_of(family, options)
    how = training.Options(checkpoint=folder, resume=options.resume)
    settings = ""
    if options.trials:
        recipe, settings = _search(family, data, recipe, options)
    try:
        return recipe, training.train(family, data, recipe, options.seed, how)
    except TrainingDiverged as failed:
        runs.append(options.runs, records.origin(family, data, recipe, options) | {"failed": failed.code})
        raise
    except TrainingStopped as stopped:
        if not settings:
            raise
        remedy = f"To train the recipe that was found: {settings} in place of --search, and --resume to go on."
        raise TrainingStopped(stopped.detail, remedy=remedy) from None


def done(family: Family[Any], options: Options) -> None:
    """The version is published: its checkpoint is not needed any more."""
    if isinstance(family, TrainedFamily) and (folder := folder_of(family, options)):
        checkpoint.discard(folder)


def folder_of(family: Family[Any], options: Options) -> Path | None:
    return options.checkpoint or (None if options.quick else FOLDER / family.model)


def _search(family: TrainedFamily[Any, Any], data: Splits[Any], recipe: Recipe, options: Options) -> tuple[Recipe, str]:
    """The recipe found, and the settings that make it."""

    def keep(trial: Trial) -> None:
        line = records.origin(family, data, trial.recipe, options) | records.of_trial(trial)
        runs.append(options.runs, line)
        score = f"{family.score_name} {trial.score:.4f}" if trial.score is not None else "no score"
        options.say(f"trial {trial.number + 1}/{options.trials}: {score}, {trial.state}, {trial.seconds:.1f} s")

    fixed = [setting.partition("=")[0] for setting in options.settings]
    found = search(family, data, recipe, options.seed, options.trials, fixed=fixed, on_trial=keep)
    settings = " ".join([*(f"--set {setting}" for setting in options.settings), as_settings(found.best.found)])
    options.say(f"{table(found)}\nThe best ({family.score_name} of validation rows) is now trained in full: {settings}")
    return found.recipe, settings
