"""The published clip as a judge: it finds emoji by their names, and looks at the pixels."""

from __future__ import annotations

import numpy as np
from data_rig import need_names

from exporters.data.emoji_prompts import VOCABULARY, pictures, things
from exporters.judge import open_judge


def test_it_finds_the_name_of_what_a_picture_shows():
    need_names()
    numbers = np.array([0, 19, 52, 69])  # a red apple, a hot dog, a rocket, a key
    shown = pictures([things()[number] for number in numbers], 64, views=[0])
    with open_judge(VOCABULARY) as judge:
        assert (judge.places(shown, numbers) < 5).all()
        others = judge.places(shown, np.roll(numbers, 1))
        assert (others >= 5).all(), "no picture shows the thing before it"
        assert (judge.places(shown[:, ::2, ::2], numbers) < 20).all(), "of any size"
