"""An autoencoder of pictures: what a U-Net works in is an eighth of their side, and a twelfth of their numbers.

Source: R. Rombach et al., https://arxiv.org/abs/2112.10752. Their latents are held near zero by a penalty; here a batch
norm gives each channel mean 0 and variance 1, which is also the scale that noise is added at, and some noise in
training makes the decoder bear what a U-Net leaves undone.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.diffusion.network import convolution, larger, normed
from exporters.family import Learner
from exporters.layers import PixelsIn

CHANNELS: Final = 16
SCALE: Final = 8  # pixels along a side of a latent
PATCH: Final = 4  # pixels along a side of what the first and the last layer take as one place
OUTER, INNER = 64, 96  # channels at a fourth and at an eighth of a picture's side
NOISE: Final = 0.05  # deviation of what is added to latents in training
MIDDLE: Final = 127.5  # pixels 0 to 255 are numbers from -1 to 1 inside


class Encoder(nn.Sequential):
    """Pixels uint8 [N, height, width, 3] -> latents float32 [N, 16, height / 8, width / 8]."""

    def __init__(self) -> None:
        super().__init__(
            PixelsIn(MIDDLE, MIDDLE),
            nn.PixelUnshuffle(PATCH),
            convolution(3 * PATCH**2, OUTER),
            Residual(OUTER),
            convolution(OUTER, INNER, stride=2),
            Residual(INNER),
            normed(INNER),
            convolution(INNER, CHANNELS),
            nn.BatchNorm2d(CHANNELS, affine=False),
        )


class Decoder(nn.Sequential):
    """Latents float32 [N, 16, height / 8, width / 8] -> picture float32 [N, 3, height, width], about -1 to 1."""

    def __init__(self) -> None:
        super().__init__(
            convolution(CHANNELS, INNER),
            Residual(INNER),
            larger(INNER, OUTER),
            Residual(OUTER),
            normed(OUTER),
            convolution(OUTER, 3 * PATCH**2),
            nn.PixelShuffle(PATCH),
        )


class Codec(nn.Module):
    """Both: pixels uint8 [N, height, width, 3] -> the picture as it comes back and as it was, [N, 3, height, width]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.numbers = PixelsIn(MIDDLE, MIDDLE)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.encoder(pixels)
        if self.training:
            latents = latents + NOISE * torch.randn_like(latents)
        return self.decoder(latents), self.numbers(pixels)


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


class Autoencoding(Learner[tuple[Tensor, Tensor], Tensor]):
    """How a codec learns: rows of pixels, and no targets but themselves."""

    model = "autoencoder"
    score_name = "decibels"

    def network(self) -> nn.Module:
        return Codec()

    def loss(self, scores: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        del targets
        return functional.l1_loss(*scores)

    def score(self, scores: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        """The peak signal over the noise, of numbers from -1 to 1."""
        del targets
        return -10 * torch.log10(functional.mse_loss(*scores) / 4)
