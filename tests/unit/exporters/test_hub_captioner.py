"""Captioners that users bring: the exported graphs, driven step by step, say what transformers' generate() says."""

from __future__ import annotations

import hub_rig
import numpy as np
import pytest
import torch

from exporters import graph_export
from exporters.errors import CheckpointUnsupported
from exporters.hub import captioner
from exporters.hub.checkpoint import open_checkpoint
from serving.tasks.caption import Caption

PICTURES = 6


@pytest.mark.parametrize("decoder", ["gpt2", "bert"])
def test_greedy_captions_are_those_of_generate(tmp_path, decoder):
    model = hub_rig.save_captioner(tmp_path, decoder)
    imported = captioner.take(open_checkpoint(tmp_path))
    treatment = graph_export.Treatment(tolerance=imported.tolerance)
    graphs = graph_export.export("captioner", Caption.signatures, imported.networks, imported.rows, treatment)
    pixels = imported.rows["encoder"]["pixels"][:PICTURES]
    with graph_export.serve(graphs) as served:
        parity = graph_export.compare(graphs, served)
        memory = served["encoder"]({"pixels": pixels})["memory"]
        found = greedy(served["decoder"], memory, imported.preprocessing["text"])
    assert parity.max_abs_difference < 1e-3
    seen = imported.networks["encoder"].pixels_in(torch.from_numpy(pixels))
    expected = model.generate(seen, do_sample=False, num_beams=1, max_length=found.shape[1]).numpy()
    assert len({row.tobytes() for row in expected}) > 1, "pictures differ, so their captions do"
    np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)


def greedy(decoder, memory: np.ndarray, text) -> np.ndarray:
    """The most likely token at each step; after an end, nothing but ends."""
    tokens = np.zeros((len(memory), text["max_tokens"]), np.int64)
    tokens[:, 0] = text["start"]
    for length in range(1, tokens.shape[1]):
        counts = np.full((len(memory), 1), length)
        tokens[:, length] = decoder({"tokens": tokens, "length": counts, "memory": memory})["logits"].argmax(axis=1)
        if length > 1:
            tokens[tokens[:, length - 1] == text["end"], length] = text["end"]
    return tokens


def test_a_caption_needs_a_start_and_an_end(tmp_path):
    hub_rig.save_captioner(tmp_path)
    hub_rig.edit(tmp_path / "config.json", decoder_start_token_id=None)
    hub_rig.edit(tmp_path / "generation_config.json", decoder_start_token_id=None)
    with pytest.raises(CheckpointUnsupported, match="states no decoder_start_token_id"):
        captioner.take(open_checkpoint(tmp_path))
