"""What families that draw emoji by name have in common: rows, what is learned of them, graphs and the measure."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, cast

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from exporters.data import emoji_prompts
from exporters.data.splits import Rows, Splits
from exporters.diffusion.codec import MIDDLE, Pixels
from exporters.diffusion.denoising import Denoiser, Scores, noised
from exporters.diffusion.drawing import Asked, Shape, draw
from exporters.diffusion.prompts import Words
from exporters.diffusion.rows import LEARNED, VIEWS, latents_of, noisy_rows, shown_things, views_of
from exporters.family import PARITY_ROWS, Predict, TrainedFamily
from exporters.judge import open_judge
from exporters.layers import PixelsIn
from exporters.measures.measured import Measured
from exporters.measures.prompts import prompt_measures
from exporters.published import rounded
from exporters.quantise import quantise
from serving.diffusion.drawing import Sampling
from serving.drawing_task import CONTEXT, DECODER, LATENTS, PIXELS, TEXT, TIMESTEP, TOKENS, UNET
from serving.repository.manifest import Licence
from serving.tensors import Array, Tensors, rows

WIDTH: Final = 64  # of what the U-Net looks at for each token
HEADS: Final = 4
ROUNDS: Final = 4  # in which an epoch shows them, each time with other noise
SAMPLES: Final = 2  # pictures of each name that are judged
QUICK_THINGS, QUICK_VIEWS = 8, 5
GUIDANCES: Final = (0.0, 0.5, 1.0, 2.0, 4.0)  # that are measured beside the usual one
TEXT_SETTINGS: Final = {
    "max_tokens": emoji_prompts.LONGEST,
    "pad": emoji_prompts.PAD,
    "null": emoji_prompts.SPECIAL[emoji_prompts.NULL],
}


class DrawingFamily(TrainedFamily[Scores, Tensor]):
    """Emoji by name. A family adds its sizes, its U-Net and, if it has one, the codec that it works inside of."""

    task = "generate-images"
    tolerance = 2e-3  # of predictions about 1, and of the share of pixels that a last digit may round the other way
    floors: ClassVar = {"prompt_in_top5": 0.5}
    quick_floors: ClassVar = {"prompt_in_top5": 0.0}
    golden_rows = 2
    score_name = "explained"
    compact = True
    side: ClassVar[int]  # of pictures, in pixels
    latents: ClassVar[Shape]
    sampling: ClassVar[Sampling]
    decoder: nn.Module | None = None  # of latents, once the data are read

    @abstractmethod
    def unet(self) -> nn.Module:
        """A fresh network as exporters/diffusion/network.py has it."""

    def codec(self, shown: Splits, *, quick: bool) -> tuple[nn.Module, nn.Module]:
        """What makes latents of pixels uint8 [N, side, side, 3], and what makes pictures float32 [N, 3, side, side] of
        them, learned of rows of pixels; by default latents are the picture itself, from -1 to 1.
        """
        del shown, quick
        return PixelsIn(MIDDLE, MIDDLE), nn.Identity()

    def licence(self) -> Licence:
        attribution = "Pictures drawn with Noto Emoji (Google, OFL-1.1); names of Unicode's CLDR."
        return Licence(spdx="Apache-2.0", source="trained by tidegate from random weights", attribution=attribution)

    def labels(self) -> tuple[str, ...]:
        return ()

    def files(self, network: nn.Module) -> Mapping[str, bytes]:
        del network
        return {"tokenizer.json": emoji_prompts.make_tokenizer().to_str(pretty=True).encode()}

    def data(self, *, quick: bool) -> Splits:
        """Training rows: latents and the prompts that may stand for them; validation rows: latents with one prompt each
        and noise of theirs; test rows: the names as tokens, and what is asked for as it should look. A codec
        learns of more views than the U-Net does.
        """
        named = emoji_prompts.things()[: QUICK_THINGS if quick else None]
        shown = shown_things(named, self.side, QUICK_VIEWS if quick else VIEWS)
        encode, self.decoder = self.codec(shown, quick=quick)
        learned = views_of(shown.train, LEARNED * ROUNDS, len(named))
        judged = views_of(shown.train, LEARNED[:1], len(named))
        prompts = np.stack([emoji_prompts.tokens_of(texts) for texts in emoji_prompts.prompts_of(named)])
        train = Rows({LATENTS: latents_of(encode, learned), "prompts": prompts[learned.targets]}, learned.targets)
        validation = noisy_rows(latents_of(encode, judged), prompts[judged.targets, 0], self.sampling.schedule.steps)
        test = Rows({TOKENS: prompts[:, 0], **shown.test.inputs}, shown.test.targets)
        return Splits(card=shown.card, test=test, train=train, validation=validation)

    def asked(self, data: Splits | None = None) -> Sequence[Tensors | str]:
        """Every way to ask for a thing but that with a word which nobody knows."""
        del data  # makes latents of all pictures
        said = {text for texts in emoji_prompts.prompts_of(emoji_prompts.things()) for text in texts}
        unknown = emoji_prompts.SPECIAL[emoji_prompts.UNKNOWN]
        return sorted(text for text in said if unknown not in text)

    def network(self) -> nn.Module:
        tokens = emoji_prompts.make_tokenizer().get_vocab_size()
        text = Words(tokens, emoji_prompts.LONGEST, WIDTH, HEADS)
        return Denoiser(text, self.unet(), copy.deepcopy(self.decoder or nn.Identity()), self.sampling)

    def augment(self, inputs: tuple[Tensor, ...], generator: Generator) -> tuple[Tensor, ...]:
        latents, prompts = inputs
        return noised(latents, prompts, self.sampling.schedule.steps, generator)

    def loss(self, scores: Scores, targets: Tensor) -> Tensor:
        del targets
        return functional.mse_loss(*scores)

    def score(self, scores: Scores, targets: Tensor) -> Tensor:
        """The share of what was to be predicted that was, by its variance."""
        del targets
        return 1 - functional.mse_loss(*scores) / scores[1].square().mean()

    def graphs(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """In weights of 8 bits: what is compared, measured and served is the rounded network."""
        small = _rounded(network)
        parts = {TEXT: small.get_submodule("text"), UNET: small.get_submodule("unet")}
        return {**parts, DECODER: Pixels(small.get_submodule("decoder"))}

    def graph_rows(self, network: nn.Module, data: Splits) -> Mapping[str, Tensors]:
        """Names, and validation rows with their noise."""
        some = rows(data.validation.inputs, 0, PARITY_ROWS)
        latents, tokens, noise, timesteps = map(torch.from_numpy, some.values())
        with torch.no_grad():
            noisy = cast(Denoiser, network).mixed(latents, noise, timesteps)
            context = self.graphs(network)[TEXT](tokens)
        unet = {LATENTS: noisy.numpy(), TIMESTEP: timesteps.float().numpy(), CONTEXT: context.numpy()}
        return {TEXT: {TOKENS: some[TOKENS]}, UNET: unet, DECODER: {LATENTS: some[LATENTS]}}

    def measure_graphs(self, graphs: Mapping[str, Predict], data: Splits) -> Measured:
        """How often clip finds what was asked for among the first five of all names, beside the same of the emoji
        themselves; and with other guidance, of which 0 is without a prompt.
        """
        tokens, truth, usual = data.test.inputs[TOKENS], data.test.targets, self.sampling.guidance
        with open_judge(emoji_prompts.VOCABULARY) as judge:
            real = judge.places(data.test.inputs[PIXELS], truth)
            drawn = {
                guidance: judge.places(
                    self.draw(graphs, np.tile(tokens, (SAMPLES, 1)), guidance), np.tile(truth, SAMPLES)
                )
                for guidance in sorted({*GUIDANCES, usual})
            }
        return prompt_measures(real, drawn, usual, len(emoji_prompts.VOCABULARY))

    def draw(self, graphs: Mapping[str, Predict], tokens: Array, guidance: float) -> Array:
        """A picture for each row of tokens, each of its own seed: uint8 [N, side, side, 3]."""
        sampling = self.sampling.model_copy(update={"guidance": guidance})
        asked = Asked(tokens, emoji_prompts.null_tokens(1), range(len(tokens)))
        return draw(graphs, sampling, self.latents, asked)


def _rounded(network: nn.Module) -> nn.Module:
    """The network in weights as they are stored: those of convolutions and dense layers in 8 bits, those of patches
    that are laid side by side in 16, since their sum is the picture.
    """
    small = copy.deepcopy(network)
    for layer in small.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight = nn.Parameter(torch.from_numpy(rounded(layer.weight.detach().numpy())))
        elif isinstance(layer, nn.ConvTranspose2d):
            steps, scale = quantise(layer.weight.detach().numpy(), 1)
            layer.weight = nn.Parameter(torch.from_numpy(steps * scale))
    return small
