"""How a U-Net and the words learn: noise is added to a picture, and they tell picture and noise apart."""

from __future__ import annotations

from typing import Final

import torch
from torch import Generator, Tensor, nn

from exporters.data.emoji_prompts import null_tokens
from serving.diffusion.drawing import Sampling

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
        level = self.levels[timesteps][:, :, None, None]
        signal, loud = level.sqrt(), (1 - level).sqrt()
        predicted = self.unet(signal * latents + loud * noise, timesteps.float(), self.text(tokens))
        wanted = {"epsilon": noise, "sample": latents, "v": signal * noise - loud * latents}[self.prediction]
        return predicted, wanted


def noised(latents: Tensor, prompts: Tensor, steps: int, generator: Generator) -> tuple[Tensor, ...]:
    """What a Denoiser takes: one of the prompts of each row, int64 [N, prompts, longest], or none, and noise of a random
    timestep. Timesteps lie evenly over a batch, which makes its loss vary less.
    """
    count, device = len(latents), latents.device
    chance = {"generator": generator, "device": device}
    chosen = torch.randint(prompts.shape[1], (count,), **chance)
    without = torch.rand(count, 1, **chance) < WITHOUT_PROMPT
    tokens = torch.where(without, torch.from_numpy(null_tokens(1)).to(device), prompts[torch.arange(count), chosen])
    noise = torch.randn(latents.shape, **chance)
    places = (torch.arange(count, device=device) + torch.rand(count, **chance)) / count
    return latents, tokens, noise, (places * steps).long().clamp(max=steps - 1).unsqueeze(1)
