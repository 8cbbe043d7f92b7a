"""Features of replies, by what stands in them: things with labels, an embedding, a text. All functions are pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

DIRECTIONS: Final = 3


def reply_features(reply: object) -> dict[str, float | str]:
    """Of any reply: by its `predictions`, if these have labels and scores, its `embedding` or its `text`."""
    predictions = getattr(reply, "predictions", None)
    if isinstance(predictions, list):
        labelled = [one for one in predictions if hasattr(one, "label") and hasattr(one, "score")]
        return found_things([(one.label, one.score) for one in labelled])
    embedding, text = getattr(reply, "embedding", None), getattr(reply, "text", None)
    if isinstance(embedding, list) and embedding:
        return embedding_features(embedding)
    return {"reply_characters": float(len(text))} if isinstance(text, str) else {}


def found_things(things: Sequence[tuple[str, float]]) -> dict[str, float | str]:
    """Of labels with scores: how many things, and the label and the score of the surest."""
    return {"reply_things": float(len(things)), **surest(things)}


def surest(things: Sequence[tuple[str, float]]) -> dict[str, float | str]:
    """The label and the score of the thing with the highest score."""
    if not things:
        return {}
    label, score = max(things, key=lambda thing: thing[1])
    return {"reply_class": label, "reply_score": float(score)}


def embedding_features(embedding: Sequence[float]) -> dict[str, float | str]:
    """Of an embedding [d] of length 1: its mean, how evenly it is spread over its numbers (1: all as large, 1/sqrt(d):
    one alone), its largest number, and where it lies along DIRECTIONS that are the same for all of d numbers.

    Length tells nothing, as it is 1. Mean and directions are times sqrt(d), so that they are of about one size for
    any d. Directions have a sign for each number, those of Walsh's functions.
    """
    vector = np.asarray(embedding, np.float64)
    count = vector.size
    found: dict[str, float | str] = {
        "reply_mean": float(vector.mean()) * math.sqrt(count),
        "reply_spread": float(np.abs(vector).mean()) * math.sqrt(count),
        "reply_largest": float(np.abs(vector).max()),
    }
    places = np.arange(count)
    for i in range(DIRECTIONS):
        signs: Any = 1 - 2 * (places >> i & 1)
        found[f"reply_direction_{i + 1}"] = float((vector * signs).mean()) * math.sqrt(count)
    return found
