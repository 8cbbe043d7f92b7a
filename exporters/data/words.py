"""Tokenizers of whole words, as Hugging Face's library reads and writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BETWEEN_WORDS: Final = r"[^\p{L}\p{N}]+"


def word_tokenizer(vocabulary: Sequence[str], special: Sequence[str], unknown: str) -> Tokenizer:
    """Words in small letters, whatever stands between them; a token's number is its place in the vocabulary.

    special: those of the vocabulary that are no words; unknown: the one that stands for every word that is not in it.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(BETWEEN_WORDS), "removed")
    tokenizer.add_special_tokens(list(special))
    return tokenizer
