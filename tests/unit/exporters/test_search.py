"""Random search: the same seed, the same trials; validation rows alone decide."""

import dataclasses
from dataclasses import replace
from typing import ClassVar

import numpy as np
import optuna
import pytest
from training_rig import RECIPE, Tiny, splits

from exporters.data.splits import Rows
from exporters.errors import SettingInvalid, TrainingDiverged
from exporters.family import Recipe, TrainedFamily, models
from exporters.search import as_settings, search, table
from exporters.search_space import DEFAULTS, Choices, LogUniform

LONG = replace(RECIPE, epochs=9)


def test_the_same_seed_makes_the_same_trials():
    first, second = (search(Tiny(), splits(), LONG, 3, 4) for _ in range(2))
    assert [(trial.recipe, trial.score, trial.state) for trial in first.trials] == [
        (trial.recipe, trial.score, trial.state) for trial in second.trials
    ]
    assert first.recipe == second.recipe
    assert search(Tiny(), splits(), LONG, 4, 4).trials[1].recipe != first.trials[1].recipe


def test_the_recipe_itself_is_tried_first_and_the_best_is_made_long_again():
    found = search(Tiny(), splits(), LONG, 3, 5)
    assert found.trials[0].recipe == replace(LONG, epochs=3)
    assert found.best.score == max(trial.score for trial in found.trials if trial.state == "complete")
    assert found.recipe == replace(found.best.recipe, epochs=9)
    space = DEFAULTS["adam"]
    for trial in found.trials[1:]:
        assert space["learning_rate"].low <= trial.recipe.learning_rate <= space["learning_rate"].high
        assert trial.recipe.batch_size in space["batch_size"].values


def test_test_rows_have_no_part():
    spoilt = Rows({"points": np.full((3, 2), np.nan, np.float32)}, np.array([9, 9, 9]))
    found, other = (search(Tiny(), data, LONG, 3, 3) for data in (splits(), replace(splits(), test=spoilt)))
    assert [trial.score for trial in found.trials] == [trial.score for trial in other.trials]


class Sized(Tiny):
    search_space: ClassVar = {"learning_rate": LogUniform(1e-6, 1e-1), "batch_size": Choices((16,))}


def test_a_family_may_say_where_to_look_and_what_falls_behind_is_cut_off():
    found = search(Sized(), splits(), LONG, 3, 10)
    assert "pruned" in {trial.state for trial in found.trials[3:]}
    assert {trial.state for trial in found.trials[:3]} == {"complete"}
    assert all(1e-6 <= trial.recipe.learning_rate <= 1e-1 for trial in found.trials[1:])
    assert any(trial.epochs < 3 for trial in found.trials if trial.state == "pruned")


def test_fields_that_are_set_are_left_alone():
    found = search(Tiny(), splits(), LONG, 3, 3, fixed=["learning_rate"])
    assert {trial.recipe.learning_rate for trial in found.trials} == {LONG.learning_rate}
    with pytest.raises(SettingInvalid, match="Leave one of learning_rate, weight_decay, batch_size free"):
        search(Tiny(), splits(), LONG, 3, 3, fixed=list(DEFAULTS["adam"]))


class Diverging(Tiny):
    def loss(self, scores, targets):
        return super().loss(scores, targets) * float("inf")


def test_when_all_diverge_it_is_said():
    seen = []
    with pytest.raises(TrainingDiverged, match="No trial came to its end"):
        search(Diverging(), splits(), LONG, 3, 2, on_trial=seen.append)
    assert [(trial.state, trial.score) for trial in seen] == [("diverged", None)] * 2


def test_it_says_nothing_itself_and_leaves_optuna_as_it_was(capsys):
    before = optuna.logging.get_verbosity()
    search(Tiny(), splits(), LONG, 3, 2)
    assert capsys.readouterr().err == ""
    assert optuna.logging.get_verbosity() == before


def test_the_table_marks_the_best_and_says_how_to_train_it():
    found = search(Tiny(), splits(), LONG, 3, 3)
    head, *rows = table(found).splitlines()
    assert head.split() == ["trial", "state", "score", "epochs", "seconds", *DEFAULTS["adam"]]
    assert [row.startswith("*") for row in rows] == [trial is found.best for trial in found.trials]
    assert f"--set batch_size={found.recipe.batch_size}" in as_settings(found.best.found)


def test_all_spaces_are_over_fields_of_recipes():
    fields = {field.name for field in dataclasses.fields(Recipe)}
    spaces = [*DEFAULTS.values(), *(made.search_space for made in models().values() if issubclass(made, TrainedFamily))]
    assert all(set(space) <= fields for space in spaces if space)
