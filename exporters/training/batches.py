"""Rows on their way into the network: a batch at a time, on the device, whatever their structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from exporters.data.splits import Rows

Batch = tuple[tuple[Tensor, ...], Any]  # inputs in the order of the task's signature, and targets as the rows have them


def shuffled(count: int, size: int, generator: Generator) -> tuple[Tensor, ...]:
    """Row numbers of each batch, in a random order; no last batch of one, which batch norm cannot take."""
    batches = torch.split(torch.randperm(count, generator=generator, device="cpu"), size)
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches


def in_order(count: int, size: int) -> tuple[Tensor, ...]:
    return torch.split(torch.arange(count, device="cpu"), size)


def batches_of(rows: Rows[Any], chosen: tuple[Tensor, ...], device: torch.device) -> Iterator[Batch]:
    """The chosen rows, batch after batch. The arrays themselves are not copied."""
    inputs, targets = tensors_of(rows)
    for numbers in chosen:
        yield each((inputs, targets), partial(_rows, numbers=numbers, device=device))


def _rows(tensor: Tensor, numbers: Tensor, device: torch.device) -> Tensor:
    return tensor[numbers].to(device)


def tensors_of(rows: Rows[Any]) -> Batch:
    """All rows as tensors that share the arrays' memory."""
    inputs = tuple(torch.from_numpy(array) for array in rows.inputs.values())
    if isinstance(rows.targets, Mapping):
        return inputs, {name: torch.from_numpy(array) for name, array in rows.targets.items()}
    return inputs, torch.from_numpy(rows.targets)


def each(tensors: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tensor, or tuples, lists and mappings of them, in the same structure, each tensor changed."""
    if isinstance(tensors, Tensor):
        return change(tensors)
    if isinstance(tensors, Mapping):
        return {name: each(part, change) for name, part in tensors.items()}
    return tuple(each(part, change) for part in tensors)


def single(tensor: Tensor) -> Tensor:
    """Half precision back to float32, so that losses need not care; anything else as it is."""
    return tensor.float() if tensor.dtype in {torch.bfloat16, torch.float16} else tensor
