"""How a U-Net and the words learn: noise is added to a picture, and they tell picture and noise apart."""

from __future__ import annotations

from typing import Final

import torch
from torch import Generator, Tensor, nn

from exporters.data.emoji_prompts import null_tokens
from serving.diffusion.drawing import Sampling

MOST_WEIGHT: Final = 5**0.5
WITHOUT_PROMPT: Final = 0.1  # of the rows, so that there is something to be guided away from
Scores = tuple[Tensor, Tensor]  # what was predicted, and what was to be


class Denoiser(nn.Module):
    """Latents float32 [N, channels, side, side], tokens int64 [N, longest], noise like the latents and timesteps int64
    [N, 1] -> what is predicted of the noisy latents, and what should be.
    """

    levels: Tensor

    def __init__(self, text: nn.Module, unet: nn.Module, decoder: nn.Module, sampling: Sampling) -> None:
        super().__init__()
        self.text, self.unet, self.prediction = text, unet, sampling.prediction
        self.decoder = decoder.requires_grad_(False)  # it learned before, and goes along to be exported
        self.register_buffer("levels", torch.from_numpy(sampling.schedule.levels()).float())

    def forward(self, latents: Tensor, tokens: Tensor, noise: Tensor, timesteps: Tensor) -> Scores:
        noisy = self.mixed(latents, noise, timesteps)
        predicted = self.unet(noisy, timesteps.float(), self.text(tokens))
        weight = self._weight(timesteps)
        return weight * predicted, weight * self.wanted(latents, noise, timesteps)

    def wanted(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What is to be predicted."""
        if self.prediction == "v":  # half a turn on, noise and picture are mixed as picture and noise are
            return self.mixed(noise, -latents, timesteps)
        return noise if self.prediction == "epsilon" else latents

    def _weight(self, timesteps: Tensor) -> Tensor:
        """What differences count for. Of a picture they count more the less noise hides it, up to a bound.

        Source: T. Hang et al., Efficient Diffusion Training via Min-SNR Weighting Strategy (2023)
        """
        level = self._level(timesteps)
        return (1 - level).rsqrt().clamp(max=MOST_WEIGHT) if self.prediction == "sample" else torch.ones_like(level)

    def mixed(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents with as much noise as there is at their timesteps."""
        level = self._level(timesteps)
        return level.sqrt() * latents + (1 - level).sqrt() * noise

    def _level(self, timesteps: Tensor) -> Tensor:
        return self.levels[timesteps].unsqueeze(2).unsqueeze(3)


def noised(latents: Tensor, prompts: Tensor, steps: int, generator: Generator) -> tuple[Tensor, ...]:
    """What a Denoiser takes: to each row one of its prompts, int64 [N, prompts, longest], or none, and noise of a
    random timestep. Timesteps lie evenly over a batch, which makes its loss vary less.
    """
    count, device = len(latents), latents.device
    chosen = torch.randint(prompts.shape[1], (count,), generator=generator, device=device)
    without = torch.rand((count, 1), generator=generator, device=device) < WITHOUT_PROMPT
    null = torch.from_numpy(null_tokens(1)).to(device)
    tokens = torch.where(without, null, prompts[torch.arange(count, device=device), chosen])
    noise = torch.randn(latents.shape, generator=generator, device=device)
    within = torch.rand((count, 1), generator=generator, device=device)
    places = (torch.arange(count, device=device).unsqueeze(1) + within) / count
    return latents, tokens, noise, (places * steps).long().clamp(max=steps - 1)
