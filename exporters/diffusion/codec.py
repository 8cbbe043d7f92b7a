"""An autoencoder of pictures: what a U-Net works in has an eighth of their side and a sixth of their numbers.

Its encoder is the best linear one, which needs no training: the principal components of patches. Its decoder begins as
the way back and learns what that leaves out. So latents are known at once and are close to normal, as a U-Net wants
them; R. Rombach et al., https://arxiv.org/abs/2112.10752, train both ends and hold latents near zero by a penalty.
"""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.diffusion.network import convolution, larger, normed
from exporters.family import Learner
from exporters.layers import PixelsIn
from serving.tensors import Array

L = TypeVar("L", bound=nn.Module)
CHANNELS: Final = 32
SCALE: Final = 8  # pixels along a side of a latent
PATCH: Final = 4  # pixels along a side of what the decoder's last layer gives as one place
OUTER, INNER = 64, 96  # channels at a fourth and at an eighth of a picture's side
NOISE: Final = 0.05  # deviation of what is added to latents in training, so that the decoder bears what a U-Net leaves
MIDDLE: Final = 127.5  # pixels 0 to 255 are numbers from -1 to 1 inside


class Encoder(nn.Sequential):
    """Pixels uint8 [N, height, width, 3] -> latents float32 [N, 32, height / 8, width / 8]."""

    def __init__(self, weight: Array, bias: Array) -> None:
        super().__init__(PixelsIn(MIDDLE, MIDDLE), _known(nn.Conv2d(3, CHANNELS, SCALE, stride=SCALE), weight, bias))


class Decoder(nn.Module):
    """Latents float32 [N, 32, height / 8, width / 8] -> picture float32 [N, 3, height, width], about -1 to 1."""

    def __init__(self, weight: Array, bias: Array) -> None:
        super().__init__()
        self.patches = _known(nn.ConvTranspose2d(CHANNELS, 3, SCALE, stride=SCALE), weight, bias)
        last = convolution(OUTER, 3 * PATCH**2)
        self.further = nn.Sequential(
            convolution(CHANNELS, INNER),
            Residual(INNER),
            larger(INNER, OUTER),
            Residual(OUTER),
            normed(OUTER),
            last,
            nn.PixelShuffle(PATCH),
        )
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, latents: Tensor) -> Tensor:
        if self.training:
            latents = latents + NOISE * torch.randn_like(latents)
        picture: Tensor = self.patches(latents) + self.further(latents)
        return picture


def principal_components(pixels: Array) -> tuple[Encoder, Decoding]:
    """Of pictures uint8 [N, height, width, 3]: an encoder, and how a decoder learns from the linear way back.

    Each component is divided by the root of its deviation: by all of it, what is hardly seen would be learned as hard
    as what is; by nothing, what is fine would drown in the last of the noise. All together have variance 1.
    """
    count, height, width, colours = pixels.shape
    cut = (pixels / MIDDLE - 1).reshape(count, height // SCALE, SCALE, width // SCALE, SCALE, colours)
    colour = cut.mean(axis=(0, 1, 2, 3, 4))
    patches = (cut - colour).swapaxes(2, 3).reshape(-1, SCALE * SCALE * colours)
    found = np.linalg.eigh(patches.T @ patches / len(patches))
    deviations, components = found.eigenvalues[::-1][:CHANNELS] ** 0.5, found.eigenvectors[:, ::-1][:, :CHANNELS]
    scales = (deviations * deviations.mean()) ** 0.5
    to_latents, to_pixels = (
        np.ascontiguousarray(part.T.reshape(CHANNELS, SCALE, SCALE, colours).transpose(0, 3, 1, 2))
        for part in (components / scales, components * scales)
    )
    return Encoder(to_latents, -to_latents.sum(axis=(2, 3)) @ colour), Decoding(to_pixels, colour)


def _known(layer: L, weight: Array, bias: Array) -> L:
    arrays = {"weight": weight, "bias": bias}
    layer.load_state_dict({name: torch.from_numpy(array).float() for name, array in arrays.items()})
    return layer


class Residual(nn.Module):
    """Two convolutions, added to what went in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.added = nn.Sequential(normed(width), convolution(width, width), normed(width), convolution(width, width))

    def forward(self, seen: Tensor) -> Tensor:
        found: Tensor = seen + self.added(seen)
        return found


class Pixels(nn.Module):
    """What `decode` gives, or with none what it is given, as pixels uint8 [N, height, width, 3]."""

    def __init__(self, decode: nn.Module | None = None) -> None:
        super().__init__()
        self.decode = decode or nn.Identity()

    def forward(self, latents: Tensor) -> Tensor:
        shown: Tensor = self.decode(latents).clamp(-1, 1) * MIDDLE + MIDDLE
        return shown.round().to(torch.uint8).permute(0, 2, 3, 1)


class Decoding(Learner):
    """How a decoder learns: rows of latents, and pixels as targets. weight, bias: of the linear way back."""

    model = "the decoder"
    score_name = "decibels"

    def __init__(self, weight: Array, bias: Array) -> None:
        self.weight, self.bias = weight, bias

    def network(self) -> nn.Module:
        return Decoder(self.weight, self.bias)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return functional.l1_loss(scores, _numbers(targets))

    def score(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The peak signal over the noise, of numbers from -1 to 1."""
        return -10 * torch.log10(functional.mse_loss(scores, _numbers(targets)) / 4)


def _numbers(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2) / MIDDLE - 1
