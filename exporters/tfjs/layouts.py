"""TensorFlow's graphs have the channels last, torch's convolutions want them first.

So tensors are kept as the operation before left them, with a note of which axis holds what, and a transposition in the
graph only changes the note. Only where an operation needs another order are numbers moved.

A layout is that note: layout[i] is the axis of the torch tensor that holds axis i of the graph's tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

Layout = tuple[int, ...]

CHANNELS_LAST: Final[Layout] = (0, 2, 3, 1)  # the graph's tensor is NHWC, the torch tensor NCHW


def plain(rank: int) -> Layout:
    """The torch tensor's axes are the graph's."""
    return tuple(range(rank))


def transposed(layout: Layout, order: Sequence[int]) -> Layout:
    """The layout after a transposition in the graph: the same torch tensor, seen with its axes in another order."""
    return tuple(layout[axis] for axis in order)


def moves(now: Layout, wanted: Layout) -> Layout:
    """What to call `permute` with, so that a tensor laid out as `now` is laid out as `wanted`."""
    return tuple(now[wanted.index(axis)] for axis in range(len(now)))
