"""A tokenizer of whole words, as callers' texts meet it."""

from __future__ import annotations

from exporters.data.words import word_tokenizer


def test_words_are_found_whatever_stands_between_them_and_others_are_one_unknown():
    tokenizer = word_tokenizer(("[UNK]", "[NULL]", "red", "apple", "café"), ("[UNK]", "[NULL]"), "[UNK]")
    for text, ids in (
        ("Red, APPLE!", [2, 3]),
        ("red-apple", [2, 3]),
        ("a café", [0, 4]),
        ("[NULL]", [1]),
        ("null", [0]),
        ("", []),
    ):
        assert tokenizer.encode(text).ids == ids, text
