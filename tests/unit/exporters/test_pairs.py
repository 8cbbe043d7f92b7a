"""Emoji and their names: kept apart as they must be, found as they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_rig import need_names

from exporters.data.emoji_names import HELD_OUT, TONES, kin_of, named_emoji, phrases_to_learn, split_names
from exporters.measures.retrieval import recall_at
from exporters.pairs import Pairs, contrastive_loss, found_share


@pytest.fixture(scope="module")
def named():
    need_names()
    return named_emoji()


def test_emoji_have_names_pictures_and_no_tones_of_skin(named):
    assert len(named) > 1_500
    assert len({one.characters for one in named}) == len(named)
    by_name = {one.name: one for one in named}
    assert by_name["red apple"].characters == "\U0001f34e"
    assert "fruit" in by_name["red apple"].keywords
    assert not TONES & set("".join(one.characters for one in named))


def test_variants_of_one_thing_are_kin_and_others_are_not(named):
    by_name = {one.name: kin_of(one.characters) for one in named}
    assert by_name["woman firefighter"] == by_name["man firefighter"] == by_name["firefighter"]
    assert by_name["man running"] == by_name["woman running"] == by_name["person running"]
    assert by_name["red apple"] != by_name["green apple"]
    assert by_name["firefighter"] != by_name["astronaut"]


def test_what_is_held_out_is_learned_nowhere(named):
    learned, held_out = split_names(named, HELD_OUT)
    assert len(held_out) == HELD_OUT
    assert not {one.characters for one in learned} & {one.characters for one in held_out}
    assert split_names(named, HELD_OUT) == (learned, held_out)
    assert not {one.name for one in held_out} & set(phrases_to_learn())


def test_recall_counts_those_whose_own_is_among_the_nearest():
    queries = np.eye(4, dtype=np.float32)
    found = np.float32([[1, 0, 0, 0], [0, 0.5, 0, 0], [0, 0.9, 0, 0], [0, 0, 0, 1]])  # 1 and 2: one place behind
    assert recall_at(1, queries, found, np.arange(4)) == pytest.approx(0.5)
    assert recall_at(2, queries, found, np.arange(4)) == pytest.approx(0.75), (
        "what is as near as all others is not found"
    )


def test_another_row_of_the_same_thing_is_no_wrong_answer():
    vectors, scale = torch.eye(4)[[0, 0, 1, 2]], torch.tensor(20.0)
    same, apart = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 3, 1, 2])
    assert contrastive_loss((vectors, vectors, scale), same).item() < 1e-3
    assert contrastive_loss((vectors, vectors, scale), apart).item() > 0.3
    assert found_share((vectors, vectors, scale), same).item() == 1.0


def test_a_loss_of_pairs_that_agree_is_less_and_the_temperature_has_an_end():
    agreeing, shuffled = torch.eye(8), torch.eye(8).roll(1, dims=0)
    things, scale = torch.arange(8), torch.tensor(10.0)
    assert contrastive_loss((agreeing, agreeing, scale), things) < contrastive_loss((agreeing, shuffled, scale), things)
    network = Pairs(seen=6, read=5, dimensions=4, dropout=0.0)
    with torch.no_grad():
        network.scale.fill_(9.0)
        image, text, sharpest = network(torch.randn(8, 6), torch.randn(8, 5))
    assert sharpest.item() == pytest.approx(1 / 0.07)
    for embeddings in (image, text):
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(8))
