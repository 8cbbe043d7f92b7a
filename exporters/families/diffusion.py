"""Pictures of things by their names, out of noise: in an autoencoder's latents, and as a variant in pixels.

Sources: R. Rombach et al., https://arxiv.org/abs/2112.10752 (latent diffusion, as Stable Diffusion), J. Ho et al.,
https://arxiv.org/abs/2006.11239 (DDPM, in pixels), J. Ho, T. Salimans, https://arxiv.org/abs/2207.12598 (guidance)
"""

from __future__ import annotations

from typing import ClassVar, Final

from torch import nn

from exporters.data.splits import Rows, Splits
from exporters.diffusion.codec import CHANNELS, SCALE, principal_components
from exporters.diffusion.family import TEXT_SETTINGS, WIDTH, DrawingFamily
from exporters.diffusion.network import UNet
from exporters.diffusion.rows import latents_of
from exporters.family import Recipe
from exporters.training import train
from serving.diffusion.drawing import Sampling
from serving.diffusion.schedule import Schedule
from serving.drawing_task import LATENTS, PIXELS

DECODER: Final = Recipe(
    epochs=40,
    batch_size=16,
    optimizer="adam",
    learning_rate=2e-3,
    warm_up=0.02,
    patience=40,
    precision="bfloat16",
    clip_norm=1.0,
    threads=1,
)
QUICK_DECODER: Final = Recipe(epochs=1, batch_size=16, optimizer="adam", learning_rate=2e-3)


class Diffusion(DrawingFamily):
    """64 pixels, in latents of 8 x 8 places."""

    model = "diffusion"
    intended_use = (
        "Draw one of a hundred things by its name, such as a red apple, as an emoji of 64 pixels. To learn from and to "
        "test with: it has learned the drawings of these hundred names by heart, so the seed changes little more than "
        "their place. It knows no other things; words that it does not know count for nothing."
    )
    side = 64
    latents = (CHANNELS, 64 // SCALE, 64 // SCALE)
    sampling = Sampling(
        schedule=Schedule(kind="cosine"), prediction="sample", sampler="dpm-solver++", steps=20, guidance=1.5
    )
    preprocessing: ClassVar = {**sampling.model_dump(), "text": TEXT_SETTINGS, "latents": latents, "scale": SCALE}
    recipe = Recipe(
        epochs=160,
        batch_size=32,
        optimizer="adam",
        learning_rate=3e-3,
        warm_up=0.02,
        patience=160,
        precision="bfloat16",
        clip_norm=1.0,
        ema=0.995,
        threads=1,
    )
    quick_recipe = Recipe(epochs=2, batch_size=16, optimizer="adam", learning_rate=2e-3, ema=0.9)

    def unet(self) -> nn.Module:
        return UNet(self.latents, (48, 64), WIDTH)

    def codec(self, shown: Splits, *, quick: bool) -> tuple[nn.Module, nn.Module]:
        encode, decoding = principal_components(shown.train.inputs[PIXELS])
        parts = {part: getattr(shown, part) for part in ("train", "validation", "test")}
        pairs = {part: Rows({LATENTS: latents_of(encode, rows)}, rows.inputs[PIXELS]) for part, rows in parts.items()}
        recipe = QUICK_DECODER if quick else DECODER
        trained = train(decoding, Splits(card=shown.card, **pairs), recipe, seed=0)
        return encode, trained.network


class Ddpm(DrawingFamily):
    """32 pixels, in the pixels themselves."""

    model = "ddpm"
    intended_use = (
        "Draw one of a hundred things by its name as an emoji of 32 pixels, to compare with `diffusion`: the same "
        "prompts and drawings, learned by heart, without an autoencoder. It knows no other things."
    )
    side = 32
    latents = (3, 32, 32)
    sampling = Sampling(
        schedule=Schedule(kind="cosine"), prediction="sample", sampler="ddim", steps=40, guidance=1.5, clip=1.0
    )
    preprocessing: ClassVar = {**sampling.model_dump(), "text": TEXT_SETTINGS, "latents": latents}
    recipe = Diffusion.recipe
    quick_recipe = Diffusion.quick_recipe

    def unet(self) -> nn.Module:
        return UNet(self.latents, (48, 48), WIDTH, patch=4)


Diffusion.variants = (Ddpm,)

PLUGIN = Diffusion
