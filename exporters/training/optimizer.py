"""What changes the weights: the optimizer, and the average that may be kept instead of them."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from exporters.family import Recipe

Tensors = tuple[Tensor, ...] | list[Tensor]
HEAD_START: Final = 10  # updates: a young average forgets faster, so that it is not made of the first random weights


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay falls on matrices and kernels alone: biases and norms have nothing to overfit with."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)  # Adam, with the decay beside the gradient


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of the network's weights and buffers; `update_parameters` after each step.

    decay: what stays of the average at each step, in the long run; before that less: (1 + updates) / (10 + updates).
    """

    def update(averages: Tensors, current: Tensors, updates: Tensor | int) -> None:
        done = int(updates)
        average = get_ema_multi_avg_fn(min(decay, (1 + done) / (HEAD_START + done)))  # type: ignore[no-untyped-call]
        average(averages, current, updates)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)
