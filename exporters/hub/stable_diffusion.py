"""Stable Diffusion, as `generate-images` wants it: CLIP's text encoder, the U-Net, and the decoder of the autoencoder.

Source: R. Rombach et al., https://arxiv.org/abs/2112.10752, in the layout of diffusers' StableDiffusionPipeline
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from exporters.errors import CheckpointUnsupported
from exporters.hub import schedulers
from exporters.hub.architecture import SEED, Imported, load, load_diffusers
from exporters.hub.checkpoint import DIFFUSERS_WEIGHTS, Checkpoint, open_checkpoint
from exporters.hub.tokens import FILE, SETTINGS, read_tokenizer
from serving.codecs.text import TextCodec, TextPreprocessing
from serving.drawing_task import CONTEXT, DECODER, LATENTS, TEXT, TIMESTEP, TOKENS, UNET, DrawnText
from serving.tensors import Tensors

GUIDANCE: Final = 7.5  # the pipeline's own default
TOLERANCE: Final = 1e-3  # of predictions, which are about 1
ROWS: Final = 8  # that are compared: a U-Net takes its time
MOST_BYTES: Final = 2**31 - 2**24  # of a graph, which protobuf cannot have larger
# What networks of other pipelines want to be asked beside.
UNTAKEN: Final = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
OTHERS: Final = "Other pipelines than Stable Diffusion's are not taken yet."
END: Final = "<|endoftext|>"  # CLIP's, which pads unless it is said otherwise
PROMPTS: Final = ("a photo of a cat", "two dogs on a beach at sunset", "red", "a bowl of fruit on a wooden table")


class _Text(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.model(tokens, return_dict=True).last_hidden_state
        return found


class _UNet(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        found: Tensor = self.model(latents, timestep.squeeze(1), context, return_dict=False)[0]
        return found


class _Decoder(nn.Module):
    """Latents as the U-Net has them to pixels as callers get them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor) -> Tensor:
        config = self.model.config
        scaled = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        picture = self.model.decode(scaled, return_dict=False)[0]
        levels = ((picture / 2 + 0.5).clamp(0, 1) * 255).round()
        pixels: Tensor = levels.permute(0, 2, 3, 1).to(torch.uint8)
        return pixels


def take(pipeline: Checkpoint) -> Imported:
    """The three graphs. CheckpointUnsupported: a part is of another kind, or is missing."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    text_part = open_checkpoint(pipeline.folder / "text_encoder")
    unet_part, vae_part = (open_checkpoint(pipeline.folder / name, DIFFUSERS_WEIGHTS) for name in (UNET, "vae"))
    _check(unet_part, "UNet2DConditionModel")
    _check(vae_part, "AutoencoderKL")
    scheduler = pipeline.json(f"scheduler/{schedulers.FILE}")
    if scheduler is None:
        raise CheckpointUnsupported(f"There is no scheduler/{schedulers.FILE}.", remedy="Download or save it again.")
    sampling = schedulers.read_sampling(scheduler, GUIDANCE)
    tokenizer = read_tokenizer(Checkpoint(pipeline.folder / "tokenizer", {}))
    text, unet = load(text_part, CLIPTextModel), load_diffusers(unet_part, UNet2DConditionModel)
    vae = load_diffusers(vae_part, AutoencoderKL)
    networks = {TEXT: _Text(text), UNET: _UNet(unet), DECODER: _Decoder(vae)}
    for role, network in networks.items():
        _check_size(role, network)
    reading = _reading(pipeline, tokenizer, text_part.number("max_position_embeddings"))
    side = unet_part.number("sample_size")
    latents = (unet_part.number("in_channels"), side, side)
    return Imported(
        task="generate-images",
        networks=networks,
        rows=_rows(networks[TEXT], TextCodec(tokenizer.decode(), reading), reading.pad, latents),
        preprocessing={
            "text": reading.model_dump(),
            "latents": latents,
            "scale": 2 ** (len(vae.config.block_out_channels) - 1),
            **sampling,
        },
        files={FILE: tokenizer},
        tolerance=TOLERANCE,
        instances=1,
    )


def _check(part: Checkpoint, kind: str) -> None:
    if part.class_name != kind:
        raise CheckpointUnsupported(f"{part.folder.name} is a {part.class_name}, not a {kind}.", remedy=OTHERS)
    for name in UNTAKEN:
        if part.config.get(name) is not None:
            raise CheckpointUnsupported(f"{part.folder.name} wants more than a text: it has {name}.", remedy=OTHERS)


def _check_size(role: str, network: nn.Module) -> None:
    size = sum(weights.numel() * weights.element_size() for weights in network.parameters())
    if size > MOST_BYTES:
        detail = f"{role} has {size / 1e9:.1f} GB of weights in float32; a graph may have 2."
        raise CheckpointUnsupported(detail, remedy="Bring a smaller model, such as a distilled one.")


def _reading(pipeline: Checkpoint, tokenizer: bytes, positions: int) -> DrawnText:
    """How texts are read and padded: as the pipeline does it, to the longest that there is."""
    settings = pipeline.json(f"tokenizer/{SETTINGS}") or {}
    special = pipeline.json("tokenizer/special_tokens_map.json") or {}
    found = settings.get("pad_token") or special.get("pad_token") or END
    name = found.get("content", "") if isinstance(found, dict) else str(found)
    pad = TextCodec(tokenizer.decode(), TextPreprocessing()).tokenizer.token_to_id(name)
    if pad is None:
        raise CheckpointUnsupported(f"Its tokenizer has no {name}, which is to pad.", remedy=f"Mend {SETTINGS}.")
    return DrawnText(max_tokens=positions, pad_to=positions, pad=pad, null="")


def _rows(text: nn.Module, codec: TextCodec, pad: int, shape: tuple[int, int, int]) -> dict[str, Tensors]:
    """Prompts, and noise at timesteps from the last to the first, with what the text encoder makes of the prompts."""
    chance = np.random.default_rng(SEED)
    read = [codec.encode(" and ".join(PROMPTS[i % len(PROMPTS) :])) for i in range(ROWS)]
    tokens = np.concatenate([np.where(mask == 1, ids, pad) for ids, mask in read])
    with torch.no_grad():
        context = text(torch.from_numpy(tokens)).numpy()
    latents = chance.standard_normal((ROWS, *shape), np.float32)
    timesteps = np.linspace(999, 0, ROWS).round().astype(np.float32)[:, np.newaxis]
    return {
        TEXT: {TOKENS: tokens},
        UNET: {LATENTS: latents, TIMESTEP: timesteps, CONTEXT: context},
        DECODER: {LATENTS: latents},
    }
