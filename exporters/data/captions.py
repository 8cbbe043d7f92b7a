"""Captions as rows: the words of the scenes' sentences as tokens, and the tokenizer that reads and writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from exporters.data.emoji import NAMES
from exporters.data.scenes import Scene
from exporters.data.sentences import with_article
from serving.tensors import Array

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, START, END, UNKNOWN = range(4)
SPECIAL: Final = ("[PAD]", "[START]", "[END]", "[UNK]")
RELATIONS: Final = ("left of", "above")
WORDS: Final = tuple(sorted({word for part in (*map(with_article, NAMES), *RELATIONS) for word in part.split()}))
VOCABULARY: Final = (*SPECIAL, *WORDS)
_IDS: Final = {word: i for i, word in enumerate(VOCABULARY)}
LONGEST: Final = 2 * max(len(with_article(name).split()) for name in NAMES) + 3  # a relation of two words, and the end


def tokens_of(sentence: str) -> Array:
    """int64 [LONGEST + 1]: the start, the words, the end, padding."""
    ids = [START, *(_IDS[word] for word in sentence.split()), END]
    row = np.full(LONGEST + 1, PAD, np.int64)
    row[: len(ids)] = ids
    return row


def sentence_of(tokens: Sequence[int]) -> str:
    """The words up to the end."""
    words = []
    for token in tokens:
        if token == END:
            break
        words.append(VOCABULARY[token])
    return " ".join(words)


def caption_tokens(scene: Scene, size: int) -> Array:
    """The target of exporters.data.scene_rows."""
    del size
    return tokens_of(scene.sentence)


def mirrored(tokens: Array, relation: str) -> Array:
    """The captions int64 [n, LONGEST + 1] of the scenes turned around: what was left is right, or what was above below.

    relation: which of RELATIONS is turned.
    """
    found = []
    for row in tokens:
        sentence = sentence_of(row[1:].tolist())
        found.append(tokens_of(f" {relation} ".join(reversed(sentence.split(f" {relation} ")))))
    return np.stack(found)


def make_tokenizer() -> Tokenizer:
    """Whole words, in small letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(_IDS, unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer
