"""A table of words in place of a transformer: each token has a vector, a text is their mean. It embeds in microseconds.

The vectors are what MiniLM makes of each token alone, reduced to their principal components and then moved so that
means of them lie as MiniLM's embeddings of phrases do. Idea: https://github.com/MinishLab/model2vec
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from exporters.minilm import embed_texts, load_minilm, mean_of, tokenizer_json
from serving.tensors import Array

SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MADE: Final = 6000  # phrases of words put together
STEPS, BATCH, RATE = 1500, 256, 3e-3
STAY: Final = 0.03  # how strongly a token's vector is held where it was


class WordTable(nn.Module):
    """Token ids and mask int64 [N, L] -> the mean of their vectors, float32 [N, dimensions].

    steps: int8 [tokens, dimensions]; scales: float32 [tokens, 1]; a vector is their product.
    """

    steps: torch.Tensor
    scales: torch.Tensor

    def __init__(self, steps: Array, scales: Array) -> None:
        super().__init__()
        self.register_buffer("steps", torch.from_numpy(steps))
        self.register_buffer("scales", torch.from_numpy(scales))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        ids = input_ids.flatten()
        words = self.steps.index_select(0, ids).float() * self.scales.index_select(0, ids)
        return mean_of(words.view(*input_ids.shape, -1), attention_mask)


@dataclass(frozen=True, slots=True)
class Words:
    """A table of words: float32 [tokens, dimensions], the tokenizer's file, and MiniLM's space reduced to the table's.

    centre float32 [384] and projection float32 [384, dimensions]: how MiniLM's embeddings come there.
    """

    vectors: Array
    tokenizer: str
    centre: Array
    projection: Array


@cache
def make_word_table(words: int, dimensions: int, phrases: tuple[str, ...], seed: int = 0) -> Words:
    """A table of so many words, taught by MiniLM on phrases and on words put together at random. PackageMissing."""
    tokenizer = json.dumps(cut_tokenizer(words), ensure_ascii=False)
    codec = Tokenizer.from_str(tokenizer)
    vocabulary = [token.removeprefix("##") for token, _ in sorted(codec.get_vocab().items(), key=itemgetter(1))]
    teacher, whole = load_minilm(), json.dumps(tokenizer_json())
    alone = embed_texts(teacher, vocabulary, whole)
    centre = alone.mean(axis=0)
    projection = np.ascontiguousarray(np.linalg.svd(alone - centre, full_matrices=False)[2][:dimensions].T)
    chance = np.random.default_rng(seed)
    usual = [token for token in vocabulary[len(SPECIAL) :] if token.isalpha() and len(token) > 2]
    made = [" ".join(chance.choice(usual, size=chance.integers(2, 5))) for _ in range(MADE)]
    texts = [text for text in (*phrases, *made) if text.strip()]
    rows = [codec.encode(text).ids for text in texts]
    wanted = (embed_texts(teacher, texts, whole) - centre) @ projection
    vectors = _taught(_unit((alone - centre) @ projection), rows, wanted, chance)
    return Words(vectors, tokenizer, centre, projection)


def cut_tokenizer(words: int) -> dict[str, Any]:
    """MiniLM's tokenizer with its special tokens and its first `words` others: they stand by how often they occur.

    Every letter and sign is kept, so that no word is unknown for want of its parts. No token begins or ends a text.
    """
    found = tokenizer_json()
    ordered = sorted(found["model"]["vocab"], key=found["model"]["vocab"].__getitem__)
    usual = [token for token in ordered if token not in SPECIAL and not token.startswith("[unused")]
    parts = [token for token in usual if len(token.removeprefix("##")) == 1 and token.isascii()]
    others = [token for token in usual if token.isascii() and token not in set(parts)]
    kept = [*SPECIAL, *parts, *others[: max(0, words - len(parts))]]
    found["model"]["vocab"] = {token: i for i, token in enumerate(kept)}
    found["added_tokens"] = [{**token, "id": kept.index(token["content"])} for token in found["added_tokens"]]
    found["post_processor"] = None
    return found


def _taught(vectors: Array, rows: Sequence[Sequence[int]], wanted: Array, chance: np.random.Generator) -> Array:
    """The vectors, moved until means of them lie as wanted: rows of token ids, and float32 [rows, dimensions]."""
    table = torch.from_numpy(vectors.copy()).requires_grad_()
    before, goal = torch.from_numpy(vectors), torch.from_numpy(_unit(wanted))
    optimizer = torch.optim.Adam([table], lr=RATE)
    for _ in range(STEPS):
        chosen = chance.integers(len(rows), size=BATCH)
        flat = torch.tensor([token for i in chosen for token in rows[i]])
        starts = torch.tensor(np.cumsum([0, *(len(rows[i]) for i in chosen)])[:-1])
        found = functional.embedding_bag(flat, table, starts, mode="mean")
        away = 1 - functional.cosine_similarity(found, goal[chosen]).mean()
        loss = away + STAY * (table[flat] - before[flat]).square().sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch says no types here
        optimizer.step()
    return table.detach().numpy()


def _unit(rows: Array) -> Array:
    found: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found
