"""CLIP: a tower for pictures and one for texts, as `embed` wants them. Source: https://arxiv.org/abs/2103.00020"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from exporters.hub.architecture import ROWS, Imported, load, pictures
from exporters.hub.checkpoint import Checkpoint
from exporters.hub.pictures import read_seeing
from exporters.hub.tokens import FILE, read_tokenizer
from serving.codecs.text import TextCodec, TextPreprocessing
from serving.picture_task import PIXELS
from serving.tensors import Tensors

TOKENS: Final = "input_ids"
MASK: Final = "attention_mask"
PAD_TO: Final = 16
TOLERANCE: Final = 1e-4
TEXTS: Final = (
    "a photo of a cat",
    "two dogs on a beach at sunset",
    "red",
    "a bowl of fruit, seen from above, on a wooden table beside a window",
    "the quick brown fox jumps over the lazy dog again and again until it is dark and everyone has gone home",
)


class _Images(nn.Module):
    def __init__(self, model: Any, pixels_in: nn.Module) -> None:
        super().__init__()
        self.model, self.pixels_in = model, pixels_in

    def forward(self, pixels: Tensor) -> Tensor:
        found = self.model.get_image_features(self.pixels_in(pixels), return_dict=True)
        return functional.normalize(found.pooler_output, dim=1)


class _Texts(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found = self.model.get_text_features(input_ids, attention_mask, return_dict=True)
        return functional.normalize(found.pooler_output, dim=1)


def take(checkpoint: Checkpoint) -> Imported:
    """Both towers. CheckpointUnsupported: no preprocessor or tokenizer."""
    from transformers import CLIPModel

    side = checkpoint.number("vision_config", "image_size")
    seeing, tokenizer = read_seeing(checkpoint, side), read_tokenizer(checkpoint)
    model = load(checkpoint, CLIPModel)
    longest = int(model.config.text_config.max_position_embeddings)
    reading = TextPreprocessing(max_tokens=longest, pad_to=min(PAD_TO, longest))
    return Imported(
        task="embed",
        networks={"image": _Images(model, seeing.pixels_in()), "text": _Texts(model)},
        rows={"image": {PIXELS: pictures(side)}, "text": _texts(TextCodec(tokenizer.decode(), reading), longest)},
        preprocessing={"image": seeing.preprocessing.model_dump(), "text": reading.model_dump()},
        files={FILE: tokenizer},
        tolerance=TOLERANCE,
        free_axes={TOKENS: "length", MASK: "length"},
    )


def _texts(codec: TextCodec, longest: int) -> Tensors:
    """Rows of one length, of texts of several."""
    tokens, mask = np.zeros((ROWS, longest), np.int64), np.zeros((ROWS, longest), np.int64)
    for i in range(ROWS):
        ids, present = codec.encode(" and ".join(TEXTS[i % len(TEXTS) :: 1 + i // len(TEXTS)]))
        tokens[i, : ids.shape[1]], mask[i, : ids.shape[1]] = ids[0], present[0]
    return {TOKENS: tokens, MASK: mask}
