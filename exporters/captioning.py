"""What captioners of scenes share: what they look at, how they are trained, and how good their sentences are.

They look at what a detector finds, not at a grid of cells: bottom-up attention. The detector is the published yolo, as
it is; only what is behind it is trained, over rows that it has been run on once. Source: P. Anderson et al.,
https://arxiv.org/abs/1707.07998
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.data import captions
from exporters.data.captions import LONGEST, PAD, RELATIONS, START, sentence_of
from exporters.data.emoji import NAMES
from exporters.data.scene_rows import held_out_scenes, load_scenes
from exporters.data.splits import Rows, Splits
from exporters.family import PARITY_ROWS, Predict, TrainedFamily, some_rows
from exporters.measures.captions import caption_measures
from exporters.measures.measured import Measured
from exporters.nms import Limits, suppress
from exporters.one_pass import BoxesAndScores, Network
from exporters.published import with_published_weights
from exporters.scene_family import SIDE, SceneFamily
from serving.picture_task import PIXELS
from serving.repository.manifest import Licence
from serving.tasks.caption import DECODER, ENCODER, LENGTH, LOGITS, MEMORY, TOKENS
from serving.tensors import Array, Tensors

MOST: Final = 8  # things looked at; scenes have four
SCORE, IOU = 0.2, 0.5  # what the detector is sure enough of, and when two boxes are one thing
CANDIDATES: Final = 64
GEOMETRY: Final = 6  # of a thing: its box, its area, the detector's score
BATCH: Final = 64  # pictures that the detector looks at together
REGIONS: Final = "regions"


class Regions(nn.Module):
    """Pixels uint8 [N, 128, 128, 3] -> what the detector finds, the surest first: float32 [N, 8, 6 + 40].

    Of each thing its box and area in shares of the picture, its score, and the score at the place of its class; zeros
    where there is no more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.detector = BoxesAndScores(with_published_weights(Network(), "yolo"))

    def forward(self, pixels: Tensor) -> Tensor:
        boxes, scores = self.detector(pixels)
        one = scores[:, :1, 0]
        limits = Limits(
            torch.full_like(one, SCORE), torch.full_like(one, IOU), torch.full_like(one, MOST, dtype=torch.int32)
        )
        found = suppress(boxes, scores, limits, candidates=CANDIDATES, most=MOST)
        box, score = found.boxes / SIDE, found.scores.unsqueeze(2)
        area = ((box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])).unsqueeze(2)
        classes = functional.one_hot(found.class_ids.long(), len(NAMES)) * score
        return torch.cat([box, area, score, classes], dim=2)


class Captions(nn.Module):
    """Regions and the tokens so far -> float32 [N, tokens, vocabulary]: at each place, of the token behind it.

    embed: regions float32 [N, 8, 46] -> memory float32 [N, 8, width]; decode: memory and tokens -> logits.
    """

    def __init__(self, embed: nn.Module, decode: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.decode = decode

    def forward(self, regions: Tensor, tokens: Tensor) -> Tensor:
        logits: Tensor = self.decode(self.embed(regions), tokens)
        return logits


class Step(nn.Module):
    """The caption task's decoder: padding comes after what counts and nobody looks ahead, so it needs no mask."""

    def __init__(self, decode: nn.Module) -> None:
        super().__init__()
        self.decode = decode

    def forward(self, tokens: Tensor, length: Tensor, memory: Tensor) -> Tensor:
        logits: Tensor = self.decode(memory, tokens)
        last = (length - 1).unsqueeze(2).expand(-1, -1, logits.shape[2])
        return logits.gather(1, last).squeeze(1)


class CaptionFamily(TrainedFamily):
    """Sentences about emoji scenes. A family adds its network, a `Captions`, and its recipe."""

    task = "caption"
    intended_use = (
        "Say in a sentence which two things are largest on a picture of emoji, and how they lie. To learn from and to "
        "test with: it knows forty things and two relations, and none on photos."
    )
    preprocessing: ClassVar = {
        "image": SceneFamily.preprocessing,
        "text": {"max_tokens": LONGEST, "pad_to": LONGEST, "start": START, "end": captions.END, "pad": PAD},
    }
    tolerance = 2e-3  # of logits, which go to tens
    floors: ClassVar = {"exact": 0.8}
    quick_floors: ClassVar = {"exact": 0.0}
    score_name = "words"
    compact = True

    def asked(self, data: Splits | None = None) -> Sequence[Tensors | str]:
        if data is not None:
            return super().asked(data)
        return some_rows({PIXELS: held_out_scenes(SceneFamily.preprocessing)})

    def licence(self) -> Licence:
        attribution = "Scenes drawn with Noto Emoji (Google, OFL-1.1) on photos of scikit-image."
        source = "trained by tidegate from random weights, behind its own detector yolo"
        return Licence(spdx="Apache-2.0", source=source, attribution=attribution)

    def labels(self) -> tuple[str, ...]:
        return ()

    def files(self, network: nn.Module) -> Mapping[str, bytes]:
        del network
        return {"tokenizer.json": captions.make_tokenizer().to_str(pretty=True).encode()}

    def data(self, *, quick: bool) -> Splits:
        """Training rows four times: as they are, and turned around, which the detector sees anew."""
        scenes = load_scenes(SceneFamily.preprocessing, captions.caption_tokens, quick=quick)
        look = Regions().eval()
        turned = [scenes.train]
        for axis, relation in ((2, RELATIONS[0]), (1, RELATIONS[1])):
            turned += [_turned(rows, axis, relation) for rows in turned]
        parts = [_rows(look, rows) for rows in turned]
        train = Rows(
            {name: np.concatenate([part.inputs[name] for part in parts]) for name in (REGIONS, TOKENS)},
            np.concatenate([part.targets for part in parts]),
        )
        return Splits(card=scenes.card, test=scenes.test, train=train, validation=_rows(look, scenes.validation))

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=PAD, label_smoothing=0.05)

    def score(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Share of captions whose every word is the likeliest behind the true words before it."""
        right = (scores.argmax(dim=2) == targets) | (targets == PAD)
        return right.all(dim=1).float().mean()

    def graphs(self, network: nn.Module) -> Mapping[str, nn.Module]:
        return {
            ENCODER: nn.Sequential(Regions(), network.get_submodule("embed")),
            DECODER: Step(network.get_submodule("decode")),
        }

    def graph_rows(self, network: nn.Module, data: Splits) -> Mapping[str, Tensors]:
        """Pictures, and their true captions as far as they may have come."""
        pixels, tokens = data.test.inputs[PIXELS][:PARITY_ROWS], data.test.targets[:PARITY_ROWS, :-1]
        length = 1 + np.arange(len(tokens))[:, np.newaxis] % LONGEST
        with torch.no_grad():
            memory = self.graphs(network)[ENCODER](torch.from_numpy(pixels)).numpy()
        begun = np.where(np.arange(LONGEST) < length, tokens, PAD)
        return {ENCODER: {PIXELS: pixels}, DECODER: {TOKENS: begun, LENGTH: length, MEMORY: memory}}

    def measure_graphs(self, graphs: Mapping[str, Predict], data: Splits) -> Measured:
        found = greedy(graphs, data.test.inputs[PIXELS])
        truth = [sentence_of(row[1:].tolist()) for row in data.test.targets]
        return caption_measures(found, truth, [sentence_of(row.tolist()) for row in data.train.targets])


def greedy(graphs: Mapping[str, Predict], pixels: Array) -> list[str]:
    """The captions of pictures uint8 [N, 128, 128, 3], each word the likeliest."""
    memory = graphs[ENCODER]({PIXELS: pixels})[MEMORY]
    tokens = np.full((len(pixels), LONGEST + 1), PAD, np.int64)
    tokens[:, 0] = START
    for step in range(LONGEST):
        length = np.full((len(pixels), 1), step + 1, np.int64)
        logits = graphs[DECODER]({TOKENS: tokens[:, :-1], LENGTH: length, MEMORY: memory})[LOGITS]
        tokens[:, step + 1] = logits.argmax(axis=1)
    return [sentence_of(row[1:].tolist()) for row in tokens]


def _turned(rows: Rows, axis: int, relation: str) -> Rows:
    pixels = np.ascontiguousarray(np.flip(rows.inputs[PIXELS], axis))
    return Rows({PIXELS: pixels}, captions.mirrored(rows.targets, relation))


def _rows(look: nn.Module, rows: Rows) -> Rows:
    """Scenes as the network is trained on them: regions and the tokens before, and the tokens behind."""
    pixels, tokens = rows.inputs[PIXELS], rows.targets
    with torch.no_grad():
        regions = [look(torch.from_numpy(pixels[i : i + BATCH])).numpy() for i in range(0, len(pixels), BATCH)]
    before, behind = np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])
    return Rows({REGIONS: np.concatenate(regions), TOKENS: before}, behind)
