"""A picture in, a sentence out: what a CNN finds as the memory of a decoder, recurrent or a transformer.

Sources: O. Vinyals et al., https://arxiv.org/abs/1411.4555 (a CNN's embedding begins an RNN), K. Xu et al.,
https://arxiv.org/abs/1502.03044 (which then looks where it wants), A. Vaswani et al., https://arxiv.org/abs/1706.03762
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporters.captioning import GEOMETRY, CaptionFamily, Captions
from exporters.data.captions import LONGEST, VOCABULARY
from exporters.data.emoji import NAMES
from exporters.family import Recipe
from exporters.transformer import DecoderLayer, Layer

HEADS = 4
DROPOUT = 0.05


def embed(width: int, depth: int) -> nn.Sequential:
    """Regions float32 [N, 8, 46] -> memory float32 [N, 8, width], in which each knows of the others."""
    own = (nn.Linear(GEOMETRY + len(NAMES), width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width))
    return nn.Sequential(*own, *(Layer(width, HEADS, DROPOUT) for _ in range(depth)))


class Recurrent(nn.Module):
    """A GRU that the memory's mean begins, and that looks at the memory for each word."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.words = nn.Embedding(len(VOCABULARY), width)
        self.begin = nn.Linear(width, width)
        self.cell = nn.GRUCell(width, width)
        self.query = nn.Linear(width, width)
        self.out = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, len(VOCABULARY)))

    def forward(self, memory: Tensor, tokens: Tensor) -> Tensor:
        words, state = self.words(tokens), torch.tanh(self.begin(memory.mean(dim=1)))
        states = []
        for step in range(LONGEST):
            state = self.cell(words[:, step], state)
            states.append(state)
        said = torch.stack(states, dim=1)
        weights = torch.softmax(self.query(said) @ memory.transpose(1, 2) / self.width**0.5, dim=2)
        logits: Tensor = self.out(torch.cat([said, weights @ memory], dim=2))
        return logits


class Attending(nn.Module):
    """A transformer's decoder."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.words = nn.Embedding(len(VOCABULARY), width)
        self.places = nn.Parameter(torch.randn(LONGEST, width) * 0.02)
        self.layers = nn.ModuleList(DecoderLayer(width, HEADS, DROPOUT) for _ in range(depth))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(VOCABULARY)))

    def forward(self, memory: Tensor, tokens: Tensor) -> Tensor:
        said = self.words(tokens) + self.places
        for layer in self.layers:
            said = layer(said, memory)
        logits: Tensor = self.out(said)
        return logits


class Captioner(CaptionFamily):
    """An RNN."""

    model = "captioner"
    recipe = Recipe(
        epochs=10,
        batch_size=64,
        optimizer="adam",
        learning_rate=2e-3,
        schedule="one-cycle",
        weight_decay=2e-2,
        patience=10,
        clip_norm=1.0,
    )
    quick_recipe = Recipe(epochs=3, batch_size=32, optimizer="adam", learning_rate=2e-3, patience=3)

    def network(self) -> nn.Module:
        return Captions(embed(128, 2), Recurrent(128))


class CaptionerTransformer(Captioner):
    """A transformer."""

    model = "captioner-transformer"

    def network(self) -> nn.Module:
        return Captions(embed(96, 2), Attending(96, 2))


Captioner.variants = (CaptionerTransformer,)

PLUGIN = Captioner
