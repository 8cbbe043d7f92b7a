"""A hundred things: asked for as people would, drawn alike but for their place."""

from __future__ import annotations

import numpy as np
import pytest
from data_rig import need_names

from exporters.data.emoji_names import HELD_OUT, named_emoji, split_names
from exporters.data.emoji_prompts import (
    LONGEST,
    NULL,
    PAD,
    PROMPTS,
    UNKNOWN,
    VIEWS,
    VOCABULARY,
    make_tokenizer,
    null_tokens,
    pictures,
    prompts_of,
    things,
    tokens_of,
)


@pytest.fixture(scope="module", autouse=True)
def _names():
    need_names()


def test_there_are_a_hundred_and_the_judge_has_learned_each_of_them():
    assert len(set(VOCABULARY)) == 100
    held_out = {one.name for one in split_names(named_emoji(), HELD_OUT)[1]}
    assert not held_out & set(VOCABULARY), "clip judges what is drawn, and these it does not know"


def test_a_thing_is_asked_for_in_several_ways_that_mean_no_other_one():
    prompts = dict(zip(VOCABULARY, prompts_of(things()), strict=True))
    assert {len(texts) for texts in prompts.values()} == {PROMPTS}
    assert {"red apple", "a red apple", "apple"} <= set(prompts["red apple"])
    assert "car" in prompts["automobile"]
    assert "fruit" not in {text for texts in prompts.values() for text in texts}
    owners = {text: name for name, texts in prompts.items() for text in texts}
    assert all(owners[text] == name for name, texts in prompts.items() for text in texts)


def test_every_word_of_a_prompt_is_known_and_padding_fills_the_rest():
    for texts in prompts_of(things()):
        plain = [text for text in texts if "[UNK]" not in text]
        tokens = tokens_of(plain)
        assert tokens.shape == (len(plain), LONGEST)
        assert UNKNOWN not in tokens
        assert (tokens[:, 0] > UNKNOWN).all()
    assert tokens_of(["key"])[0].tolist()[1:] == [PAD] * (LONGEST - 1)
    assert null_tokens(2).tolist() == [[NULL, *[PAD] * (LONGEST - 1)]] * 2


def test_case_and_signs_do_not_count_and_other_words_are_one_unknown():
    plain, shouted, strange = tokens_of(["a red apple", "  A RED, apple!", "a zyzzyva apple"])
    assert plain.tolist() == shouted.tolist()
    assert strange[1] == UNKNOWN
    assert strange[[0, 2]].tolist() == plain[[0, 2]].tolist()
    assert len(tokens_of(["key " * 50])[0]) == LONGEST
    assert make_tokenizer().get_vocab_size() == len(set(make_tokenizer().get_vocab().values()))


@pytest.mark.parametrize("side", [32, 64])
def test_views_are_turned_around_and_moved_by_a_sixteenth(side):
    shown = pictures(things()[:1], side, views=range(VIEWS))
    assert shown.shape == (VIEWS, side, side, 3)
    assert len({view.tobytes() for view in shown}) == VIEWS
    assert (shown[:, [0, -1]] > 200).mean() > 0.9, "on white"
    step = side // 16
    np.testing.assert_array_equal(np.roll(shown[0], -step, axis=0), shown[2])  # the second place is further up
    turned, mirrored = shown[1].astype(int), shown[0][:, ::-1].astype(int)
    assert min(np.abs(np.roll(turned, moved, axis=1) - mirrored).mean() for moved in (-1, 0, 1)) < 3
