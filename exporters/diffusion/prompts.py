"""Words as what a U-Net looks at, learned with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporters.data.emoji_prompts import PAD
from exporters.transformer import Layer


class Words(nn.Module):
    """Token ids int64 [N, longest] -> context float32 [N, longest, width], in which each word knows of the others.

    Padding, token 0, is nothing in it: so contexts need no mask, and a text is the sum of its words.
    """

    def __init__(self, vocabulary: int, longest: int, width: int, heads: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.randn(longest, width) * 0.02)
        self.layer = Layer(width, heads, dropout=0.0)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        context: Tensor = self.norm(self.layer(self.words(tokens) + self.places))
        return context * (tokens != PAD).unsqueeze(2)
