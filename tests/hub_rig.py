"""Checkpoints as users bring them: tiny, with random weights, saved by transformers itself."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizerFast,
    GPT2Config,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

SENTENCES = ("a photo of a cat", "two dogs on a beach", "a red apple on a table", "a man rides a horse")
START, END = "<|startoftext|>", "<|endoftext|>"
SIDE = 32


def tokenizer() -> Tokenizer:
    """As CLIP's: pieces of bytes, between a start and an end."""
    made = Tokenizer(models.BPE(unk_token=END))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[START, END], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    ends = [(token, made.token_to_id(token)) for token in (START, END)]
    made.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    return made


def save_clip(folder: Path, seed: int = 0) -> CLIPModel:
    """A CLIP of two layers to the tower; gives the model that was saved."""
    words = tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    start, end = words.token_to_id(START), words.token_to_id(END)
    text = {"vocab_size": words.get_vocab_size(), "max_position_embeddings": 24, "pad_token_id": end}
    config = CLIPConfig(
        text_config={**sizes, **text, "bos_token_id": start, "eos_token_id": end},
        vision_config={**sizes, "image_size": SIDE, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(seed)
    model = CLIPModel(config).eval()
    model.save_pretrained(folder)
    crop = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE + 8}, crop_size=crop).save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    return model


def edit(file: Path, **changes) -> None:
    """Sets fields of a JSON file; None takes one out."""
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in found.items() if value is not None}))


def save_captioner(folder: Path, decoder: str = "gpt2", seed: int = 0) -> VisionEncoderDecoderModel:
    """A ViT with a GPT-2 or a BERT that looks at it; gives the model that was saved."""
    words = tokenizer()
    start, end = words.token_to_id(START), words.token_to_id(END)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    looking = {"is_decoder": True, "add_cross_attention": True, "bos_token_id": start, "eos_token_id": end}
    vocabulary = words.get_vocab_size()
    torch.manual_seed(seed)
    text: GPT2Config | BertConfig
    if decoder == "gpt2":
        text = GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=4, n_positions=24, **looking)
    else:
        # Of another width than the encoder, so that what it sees is projected.
        wide = {**sizes, "hidden_size": 48}
        text = BertConfig(vocab_size=vocabulary, max_position_embeddings=24, **wide, **looking)
    image = ViTConfig(image_size=SIDE, patch_size=8, **sizes)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(image, text)
    config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = start, end, end
    model = VisionEncoderDecoderModel(config).eval()
    for name, weights in model.named_parameters():  # fresh ones are so small that all pictures look the same
        if weights.ndim > 1 and "LayerNorm" not in name:
            torch.nn.init.normal_(weights, std=0.3)
    generation = model.generation_config
    generation.decoder_start_token_id, generation.eos_token_id, generation.pad_token_id = start, end, end
    generation.max_length = 16
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    return model


STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}  # Stable Diffusion's noise


def save_stable_diffusion(folder: Path, seed: int = 0) -> StableDiffusionPipeline:
    """Stable Diffusion with all its parts, small ones that know nothing; gives the pipeline that was saved."""
    words = tokenizer()
    start, end = words.token_to_id(START), words.token_to_id(END)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    text = CLIPTextConfig(vocab_size=words.get_vocab_size(), max_position_embeddings=24, **sizes, **ends)
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        sample_size=SIDE,
    )
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=CLIPTokenizerFast(tokenizer_object=words, model_max_length=24, **special),
        unet=unet,
        scheduler=DDIMScheduler(**STABLE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return pipeline
