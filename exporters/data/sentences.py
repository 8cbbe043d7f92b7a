"""What a scene shows, in words: "a dog left of an apple"."""

from __future__ import annotations

from collections.abc import Sequence

from serving.tensors import Array


def describe(names: Sequence[str], boxes: Array) -> str:
    """The scene's sentence: its two largest things and where the first lies of the second, or its only thing.

    boxes: float32 [n, 4] as xmin, ymin, xmax, ymax, one a name. The thing further left is named first, or the upper one
    where they lie one above the other.
    """
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = sorted(range(len(names)), key=lambda i: -sizes[i])[:2]
    if len(order) == 1:
        return with_article(names[order[0]])
    across, down = (
        (boxes[order[1], i] + boxes[order[1], i + 2] - boxes[order[0], i] - boxes[order[0], i + 2]) for i in (0, 1)
    )
    beside = abs(across) >= abs(down)
    if (across if beside else down) < 0:
        order.reverse()
    relation = "left of" if beside else "above"
    return f"{with_article(names[order[0]])} {relation} {with_article(names[order[1]])}"


def with_article(name: str) -> str:
    """The name behind "a" or "an"; "grapes", which are many, as they are."""
    if name.endswith("s") and not name.endswith(("ss", "us")):
        return name
    return f"{'an' if (name[0] in 'aeiou' and not name.startswith('u')) or name == 'umbrella' else 'a'} {name}"
