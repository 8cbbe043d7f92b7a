"""A vision encoder with a text decoder, as `caption` wants them: the encoder once, the whole prefix at each step.

The decoder keeps nothing between steps, so captions of different callers at different steps meet in a batch. Source of
the pair: M. Li et al., https://arxiv.org/abs/2109.10282, as transformers' VisionEncoderDecoderModel has it
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from exporters.errors import CheckpointUnsupported
from exporters.hub.architecture import ROWS, SEED, Imported, load, pictures
from exporters.hub.checkpoint import CONFIG, Checkpoint
from exporters.hub.pictures import read_seeing
from exporters.hub.tokens import FILE, read_tokenizer
from serving.codecs.text import TextPreprocessing
from serving.picture_task import PIXELS
from serving.tensors import Tensors

TOKENS: Final = "tokens"
LENGTH: Final = "length"
MEMORY: Final = "memory"
GENERATION: Final = "generation_config.json"
LONGEST: Final = 64  # tokens of a caption: each step computes as many
USUAL: Final = 32  # where the checkpoint states none
TOLERANCE: Final = 1e-3  # of logits, which go to tens


class _Encoder(nn.Module):
    def __init__(self, model: Any, pixels_in: nn.Module) -> None:
        super().__init__()
        self.encoder, self.pixels_in = model.encoder, pixels_in
        self.project = getattr(model, "enc_to_dec_proj", nn.Identity())

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.project(self.encoder(self.pixels_in(pixels), return_dict=True).last_hidden_state)
        return found


class _Decoder(nn.Module):
    """Padding comes after what counts, and nobody looks ahead: it changes nothing and needs no mask."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, tokens: Tensor, length: Tensor, memory: Tensor) -> Tensor:
        found = self.decoder(input_ids=tokens, encoder_hidden_states=memory, use_cache=False, return_dict=True)
        logits: Tensor = found.logits
        last = (length - 1).unsqueeze(2).expand(-1, -1, logits.shape[2])
        return logits.gather(1, last).squeeze(1)


def take(checkpoint: Checkpoint) -> Imported:
    """Encoder and decoder. CheckpointUnsupported: no preprocessor or tokenizer, or no start or end of a caption."""
    from transformers import VisionEncoderDecoderModel

    side = checkpoint.number("encoder", "image_size")
    seeing, tokenizer = read_seeing(checkpoint, side), read_tokenizer(checkpoint)
    start, end = _token(checkpoint, "decoder_start_token_id"), _token(checkpoint, "eos_token_id")
    model = load(checkpoint, VisionEncoderDecoderModel)
    decoder = model.config.decoder
    positions = getattr(decoder, "max_position_embeddings", LONGEST)
    stated = (checkpoint.json(GENERATION) or {}).get("max_length") or USUAL
    longest = min(int(positions), int(stated), LONGEST)
    reading = TextPreprocessing(max_tokens=longest, pad_to=longest)
    networks = {"encoder": _Encoder(model, seeing.pixels_in()), "decoder": _Decoder(model)}
    pixels = pictures(side)
    with torch.no_grad():
        memory = networks["encoder"](torch.from_numpy(pixels)).numpy()
    return Imported(
        task="caption",
        networks=networks,
        rows={"encoder": {PIXELS: pixels}, "decoder": _prefixes(memory, longest, int(decoder.vocab_size), start)},
        preprocessing={
            "image": seeing.preprocessing.model_dump(),
            "text": {**reading.model_dump(), "start": start, "end": end},
        },
        files={FILE: tokenizer},
        tolerance=TOLERANCE,
    )


def _prefixes(memory: Any, longest: int, vocabulary: int, start: int) -> Tensors:
    """Captions as far as they may have come: a start and tokens at random, of all lengths, padded."""
    chance = np.random.default_rng(SEED)
    tokens = chance.integers(0, vocabulary, (ROWS, longest))
    length = 1 + np.arange(ROWS)[:, np.newaxis] * (longest - 1) // (ROWS - 1)
    tokens[:, 0] = start
    tokens[np.arange(longest) >= length] = 0
    return {TOKENS: tokens, LENGTH: length, MEMORY: memory}


def _token(checkpoint: Checkpoint, name: str) -> int:
    """The id of a special token: of generation_config.json, or of config.json, or of its decoder's part."""
    stated = (checkpoint.json(GENERATION) or {}, checkpoint.config, checkpoint.config.get("decoder") or {})
    for found in (part.get(name) for part in stated):
        first = found[0] if isinstance(found, list) and found else found
        if isinstance(first, int):
            return first
    raise CheckpointUnsupported(f"It states no {name}.", remedy=f"Add it to {GENERATION} or to {CONFIG}.")
