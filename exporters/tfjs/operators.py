"""The operations of a graph as torch modules, over tensors with the channels first.

Weights come as TensorFlow has them: convolutions [height, width, in, out], depthwise ones [height, width, channels,
multiplier], transposed ones [height, width, out, in].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.tfjs.layouts import Layout


class Move(nn.Module):
    """Moves numbers to another order of axes."""

    def __init__(self, order: Layout) -> None:
        super().__init__()
        self.order = order

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.permute(self.order)


class Elementwise(nn.Module):
    """A function of each number by itself."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)


class Combine(nn.Module):
    """Two tensors or more, combined number by number from left to right."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = self.function(first, other)
        return first


class CombineConstant(nn.Module):
    """A tensor and a constant, combined number by number; the constant is laid out as the tensor is."""

    constant: Tensor

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], constant: Tensor) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("constant", constant)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs, self.constant)


class Convolution(nn.Module):
    """A convolution, depthwise ones by `groups`. With `same` it is padded as TensorFlow does, so that each side is
    divided by the stride and rounded up: what cannot be shared evenly goes to the right and below.

    weight: [out, in / groups, height, width]
    """

    def __init__(self, weight: Tensor, stride: Sequence[int], *, groups: int, same: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias: nn.Parameter | None = None
        self.channels_out = weight.shape[0]
        self.stride = tuple(stride)
        self.groups = groups
        self.same = same

    def forward(self, inputs: Tensor) -> Tensor:
        if self.same and any(edges := self._edges(inputs)):
            inputs = functional.pad(inputs, edges)
        return functional.conv2d(inputs, self.weight, self.bias, self.stride, groups=self.groups)

    def _edges(self, inputs: Tensor) -> list[int]:
        """What is added on the left, the right, above and below."""
        edges = []
        for axis in (3, 2):
            side, kernel, stride = int(inputs.shape[axis]), self.weight.shape[axis], self.stride[axis - 2]
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            edges += [total // 2, total - total // 2]
        return edges


class TransposedConvolution(nn.Module):
    """The convolution's transpose with "same" padding: each side is multiplied by the stride.

    weight: [in, out, height, width]; kernel - stride must be even and at least 0.
    """

    def __init__(self, weight: Tensor, stride: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias: nn.Parameter | None = None
        self.channels_out = weight.shape[1]
        self.stride = tuple(stride)
        self.padding = tuple((kernel - step) // 2 for kernel, step in zip(weight.shape[2:], stride, strict=True))

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.conv_transpose2d(inputs, self.weight, self.bias, self.stride, self.padding)


class AveragePool(nn.Module):
    """The mean of each window, without padding."""

    def __init__(self, window: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.window = tuple(window)
        self.stride = tuple(stride)

    def forward(self, inputs: Tensor) -> Tensor:
        if tuple(inputs.shape[2:]) == self.window:
            return inputs.mean((2, 3), keepdim=True)  # engines have a faster way for the mean of all
        return functional.avg_pool2d(inputs, self.window, self.stride)


class MaximumPool(nn.Module):
    """The largest number of each window, without padding."""

    def __init__(self, window: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.window = tuple(window)
        self.stride = tuple(stride)

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.max_pool2d(inputs, self.window, self.stride)


class Pad(nn.Module):
    """Adds `value` around. edges: as torch wants them, the last axis first."""

    def __init__(self, edges: Sequence[int], value: float) -> None:
        super().__init__()
        self.edges = list(edges)
        self.value = value

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.pad(inputs, self.edges, value=self.value)


class ResizeBilinear(nn.Module):
    """Bilinear interpolation to a fixed height and width, between the centres of pixels (half_pixel_centers)."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = [int(side) for side in size]

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.interpolate(inputs, self.size, mode="bilinear", align_corners=False)


class Concatenate(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.axis)


class Split(nn.Module):
    """Parts of given sizes along an axis."""

    def __init__(self, sizes: Sequence[int], axis: int) -> None:
        super().__init__()
        self.sizes = [int(size) for size in sizes]
        self.axis = axis

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.split(inputs, self.sizes, self.axis)


class Reshape(nn.Module):
    """Another shape for each row; the batch axis stays as it is."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = [int(size) for size in shape]

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.reshape(inputs.shape[0], *self.shape)
