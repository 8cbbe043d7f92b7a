"""Fields of a recipe, set by name on the command line."""

import pytest

from exporters.errors import SettingInvalid
from exporters.family import Recipe
from exporters.overrides import override

RECIPE = Recipe(epochs=3, batch_size=16, optimizer="adam", learning_rate=1e-3, ema=0.9)


def test_values_take_their_fields_types():
    made = override(RECIPE, ["learning_rate=0.1", "epochs=5", "optimizer=sgd", "ema=none", "clip_norm=1"])
    assert made == Recipe(epochs=5, batch_size=16, optimizer="sgd", learning_rate=0.1, ema=None, clip_norm=1.0)
    assert isinstance(made.clip_norm, float)
    assert override(RECIPE, []) == RECIPE


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("lr=3", "'lr=3' is not a setting of a recipe"),
        ("epochs", "'epochs' is not a setting of a recipe"),
        ("epochs=0", "epochs=0: input should be greater than 0"),
        ("epochs=2.5", "epochs=2.5: input should be a valid integer"),
        ("precision=float16", "precision=float16: input should be 'float32' or 'bfloat16'"),
        ("ema=1", "ema=1: input should be less than 1"),
        ("learning_rate=nan", "learning_rate=nan: input should be"),
        ("learning_rate=inf", "learning_rate=inf: input should be a finite number"),
        ("epochs=none", "epochs=None: input should be a valid integer"),
    ],
)
def test_what_cannot_hold_is_told_with_what_there_is(setting, words):
    with pytest.raises(SettingInvalid) as refused:
        override(RECIPE, [setting])
    assert words in refused.value.detail
    assert "epochs (integer above 0)" in refused.value.remedy
    assert "schedule (constant or cosine or one-cycle or step)" in refused.value.remedy
    assert "ema (number from 0 below 1 or none)" in refused.value.remedy
