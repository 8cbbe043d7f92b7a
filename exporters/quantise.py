"""Float32 weights as whole steps of one scale per channel."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Bits = Literal[8, 16]
STEPS: Final[dict[Bits, Any]] = {8: np.int8, 16: np.int16}


def quantise(
    weight: npt.NDArray[np.float32], axis: int, bits: Bits = 16
) -> tuple[npt.NDArray[np.int16 | np.int8], npt.NDArray[np.float32]]:
    """Steps and their size: `steps * scale` is the weight to within one scale. `scale` has one number per channel.

    weight: float32, any rank; axis: of the channels. `scale` has the weight's rank, with 1 on the other axes.

    Rounding keeps each channel's sum to within half a scale: inputs that come out of a ReLU are all positive, so an
    error of the sum is what would reach the output.
    """
    levels = np.iinfo(STEPS[bits]).max  # the lowest is left out: symmetric around 0
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / levels, 1).astype(np.float32)
    exact = rows / scale
    steps = np.clip(_keep_sums(exact, np.rint(exact)), -levels, levels).astype(STEPS[bits])
    moved = [weight.shape[axis], *(size for i, size in enumerate(weight.shape) if i != axis % weight.ndim)]
    broad = [weight.shape[axis] if i == axis % weight.ndim else 1 for i in range(weight.ndim)]
    return np.ascontiguousarray(np.moveaxis(steps.reshape(moved), 0, axis)), scale.reshape(broad)


def _keep_sums(exact: npt.NDArray[np.float64], rounded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`rounded` with each row's sum brought back to that of `exact`: the numbers nearest to the other side change."""
    error = exact - rounded
    surplus = np.rint(error.sum(axis=1, keepdims=True))
    direction = np.sign(surplus)
    order = np.argsort(-error * direction, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    kept: npt.NDArray[np.float64] = rounded + direction * (rank < np.abs(surplus))
    return kept
