"""Layers of transformers: attention over tokens, and over what another network has seen.

Source: A. Vaswani et al., https://arxiv.org/abs/1706.03762; the norms come first, as in https://arxiv.org/abs/2002.04745
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Self-attention of several heads over tokens float32 [N, tokens, width]. causal: no token looks ahead."""

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.triple = nn.Linear(width, 3 * width)  # queries, keys and values
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        split = self.triple(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(split[0], split[1], split[2], is_causal=self.causal)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended


class CrossAttention(nn.Module):
    """Attention of tokens float32 [N, tokens, width] to a memory float32 [N, places, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.pair = nn.Linear(width, 2 * width)  # keys and values
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        query = self.query(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
        pair = self.pair(memory).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, pair[0], pair[1])
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended


class Layer(nn.Module):
    """Attention, then two dense layers, each added to what went in and each behind a layer norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads), nn.Dropout(dropout))
        self.dense = dense(width, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(tokens)
        layer: Tensor = tokens + self.dense(tokens)
        return layer


class DecoderLayer(nn.Module):
    """As Layer, but no token looks ahead, and between the two it looks at the memory."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        attention = Attention(width, heads, causal=True)
        self.attention = nn.Sequential(nn.LayerNorm(width), attention, nn.Dropout(dropout))
        self.norm = nn.LayerNorm(width)
        self.look = CrossAttention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.dense = dense(width, dropout)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        tokens = tokens + self.attention(tokens)
        tokens = tokens + self.dropout(self.look(self.norm(tokens), memory))
        layer: Tensor = tokens + self.dense(tokens)
        return layer


def dense(width: int, dropout: float) -> nn.Sequential:
    """What each token goes through by itself."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 2 * width),
        nn.GELU(),
        nn.Linear(2 * width, width),
        nn.Dropout(dropout),
    )
