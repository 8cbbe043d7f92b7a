"""Pictures and texts in one space, learned from pairs: emoji and what they are called.

The towers stand on what others have learned, of photos and of sentences: with a thousand pairs nothing else would know
a thing that it has not seen. Source: A. Radford et al., https://arxiv.org/abs/2103.00020
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn

from exporters.data import emoji
from exporters.data.emoji_names import HELD_OUT, LICENCE, PACKAGE, Named, kin_of, named_emoji, split_names
from exporters.data.emoji_pairs import SIDE, pictures
from exporters.data.imagenet import imagenet_labels
from exporters.data.splits import Rows, Splits
from exporters.efficientnet_lite import ATTRIBUTION, provenance
from exporters.family import PARITY_ROWS, Predict, Recipe, TrainedFamily
from exporters.measures.measured import Measured
from exporters.measures.retrieval import recall_at
from exporters.minilm import token_rows
from exporters.pairs import (
    FEATURES,
    WORDS,
    Pairs,
    Reading,
    Scores,
    Seeing,
    class_features,
    contrastive_loss,
    found_share,
)
from exporters.provenance import digest_arrays
from exporters.published import published_file
from serving.picture_task import PIXELS
from serving.repository.manifest import Data, Licence, Metric
from serving.tasks.embed import ATTENTION_MASK, EMBEDDING, IMAGE, INPUT_IDS, TEXT
from serving.tensors import Array, Tensors, rows

TOKENIZER: Final = "tokenizer.json"
DIMENSIONS: Final = 256
READ: Final = 128  # of a text's features
VIEWS: Final = 3  # of each thing to learn from
SAID: Final = 4  # how often each view is said differently: by its name twice, else by its keywords
BATCH: Final = 16
QUICK: Final = 60  # things, of which a third is held out


class Clip(TrainedFamily[Scores, Tensor]):
    """Emoji by their names, 256 dimensions."""

    model = "clip"
    task = "embed"
    intended_use = (
        "Find drawings by words and by drawings: emoji and what looks like them. It has seen 1,400 emoji and few words "
        "beyond their names; photos only as far as ImageNet's features reach."
    )
    preprocessing: ClassVar = {
        "image": {"resize": None, "letterbox": True, "size": SIDE, "resample": "bicubic", "channels": 3},
        "text": {"tokenizer": TOKENIZER, "max_tokens": 64, "pad_to": 16},
    }
    tolerance = 1e-4
    floors: ClassVar = {"recall_at_1": 0.40, "recall_at_5": 0.58}
    quick_floors: ClassVar = {"recall_at_1": 0.0}
    free_axes: ClassVar = {INPUT_IDS: "length", ATTENTION_MASK: "length"}
    score_name = "found"
    golden_rows = 2
    compact = True
    recipe = Recipe(
        epochs=10,
        batch_size=256,
        optimizer="adam",
        learning_rate=2e-3,
        weight_decay=0.1,
        patience=10,
    )
    quick_recipe = Recipe(epochs=2, batch_size=32, optimizer="adam", learning_rate=2e-3, patience=2)

    def licence(self) -> Licence:
        source = f"projections trained by tidegate, behind {provenance()}, and behind its own {WORDS}"
        attribution = f"{ATTRIBUTION} Pictures drawn with Noto Emoji (Google, OFL-1.1); names of Unicode's CLDR."
        return Licence(spdx="Apache-2.0", source=source, attribution=attribution)

    def labels(self) -> tuple[str, ...]:
        return ()

    def files(self, network: nn.Module) -> Mapping[str, bytes]:
        del network
        return {TOKENIZER: published_file(WORDS, TOKENIZER).read_bytes()}

    def data(self, *, quick: bool) -> Splits:
        """To learn from: features of pictures and of what they are called, computed once. Test: pixels and names;
        targets int64 [N, 2]: a pair's own row, and 1 where a variant of it for another sex is among the others.
        """
        named = named_emoji()
        if quick:
            named = named[:: len(named) // QUICK]
        learned, held_out = split_names(named, len(named) // 3 if quick else HELD_OUT)
        learned, judged = split_names(learned, len(learned) // 10)
        shown, tokens = (
            pictures(held_out, self.preprocessing["image"], views=[0]),
            _tokens([one.name for one in held_out]),
        )
        train = _with_classes(self._rows(learned, views=range(1 if quick else VIEWS), said=SAID))
        validation = self._rows(judged, views=[0], said=1)
        kin = {kin_of(one.characters) for one in (*learned, *judged)}
        known = np.array([kin_of(one.characters) in kin for one in held_out], np.int64)
        card = Data(
            name="emoji and their names",
            source=f"drawn by tidegate from Debian's {emoji.PACKAGE}; names of Debian's {PACKAGE}",
            licence=f"{emoji.LICENCE} (emoji); {LICENCE} (names)",
            digest=digest_arrays([shown, *tokens.values(), *train.inputs.values()]),
            rows={"train": len(learned), "classes": 1000, "validation": len(judged), "test": len(held_out)},
            note=f"No flags, no tones of skin. Of {known.sum()} held-out emoji another variant, for men, women or any "
            "person, was among the others; unrelated_* are of the rest.",
        )
        truth = np.stack([np.arange(len(held_out)), known], axis=1)
        return Splits(card=card, test=Rows({PIXELS: shown, **tokens}, truth), train=train, validation=validation)

    def asked(self, data: Splits | None = None) -> Sequence[Tensors | str]:
        """Pictures that were held out, and their names."""
        del data  # reads all that is learned from too
        _, held_out = split_names(named_emoji(), HELD_OUT)
        shown = pictures(held_out, self.preprocessing["image"], views=[0])
        return [*({PIXELS: shown[i : i + 1]} for i in range(len(shown))), *(one.name for one in held_out)]

    def network(self) -> nn.Module:
        return Pairs(FEATURES, READ, DIMENSIONS, dropout=0.3)

    def loss(self, scores: Scores, targets: Tensor) -> Tensor:
        return contrastive_loss(scores, targets)

    def score(self, scores: Scores, targets: Tensor) -> Tensor:
        return found_share(scores, targets)

    def graphs(self, network: nn.Module) -> Mapping[str, nn.Module]:
        image, text = network.get_submodule("image"), network.get_submodule("text")
        return {IMAGE: nn.Sequential(Seeing(), image), TEXT: Texts(text)}

    def graph_rows(self, network: nn.Module, data: Splits) -> Mapping[str, Tensors]:
        del network
        some = rows(data.test.inputs, 0, PARITY_ROWS)
        return {IMAGE: {PIXELS: some[PIXELS]}, TEXT: {name: some[name] for name in (INPUT_IDS, ATTENTION_MASK)}}

    def measure_graphs(self, graphs: Mapping[str, Predict], data: Splits) -> Measured:
        """How often a name finds its picture among all that were held out, as in a search; and a picture its name.

        `unrelated_`: the same among those of which no variant was learned, which says more of what it has never seen.
        """
        inputs, count = data.test.inputs, len(data.test)
        parts = [rows(inputs, i, min(i + BATCH, count)) for i in range(0, count, BATCH)]
        shown = np.concatenate([graphs[IMAGE]({PIXELS: part[PIXELS]})[EMBEDDING] for part in parts])
        words = {name: inputs[name] for name in (INPUT_IDS, ATTENTION_MASK)}
        named = graphs[TEXT](words)[EMBEDDING]
        alone = data.test.targets[:, 1] == 0
        metrics = {**_recalls(shown, named), **_recalls(shown[alone], named[alone], "unrelated_")}
        return Measured(metrics)

    def _rows(self, named: Sequence[Named], *, views: Sequence[int], said: int) -> Rows:
        """Features of each view of each thing, with those of what it is called: its name first, then its keywords in
        turn. Targets: the thing's number.
        """
        look, read = Seeing().eval(), Reading()
        shown = pictures(named, self.preprocessing["image"], views=views)
        seen = np.concatenate([_run(look, shown[i : i + BATCH]) for i in range(0, len(shown), BATCH)])
        called = [[_called(one, place) for one in named] for place in range(len(views) * said)]
        texts = np.concatenate([_run(read, *_tokens(some).values()) for some in called])
        inputs = {"seen": np.repeat(seen.reshape(len(views), len(named), -1), said, axis=0).reshape(len(texts), -1)}
        return Rows({**inputs, "read": texts}, np.tile(np.arange(len(named)), len(called)))


def _recalls(shown: Array, named: Array, prefix: str = "") -> dict[str, Metric]:
    """Of embeddings float32 [N, D] of N pairs, both ways; without a pair nothing can be said."""
    truth, count = np.arange(len(shown)), len(shown)
    ways = {"": (named, shown), "name_": (shown, named)}
    return {
        f"{prefix}{way}recall_at_{k}": Metric(
            value=recall_at(k, queries, found, truth), rows=count, baseline=k / count, baseline_name="guessing"
        )
        for way, (queries, found) in ways.items()
        for k in (1, 5)
        if count
    }


def _with_classes(things: Rows) -> Rows:
    """And ImageNet's classes with their names, as often as a thing is said."""
    seen, count = class_features(things.inputs["seen"]), things.targets.max() + 1
    read = _run(Reading(), *_tokens([label.split(",")[0] for label in imagenet_labels()]).values())
    inputs = {"seen": [things.inputs["seen"], *[seen] * SAID], "read": [things.inputs["read"], *[read] * SAID]}
    targets = [things.targets, *[count + np.arange(len(seen))] * SAID]
    return Rows({name: np.concatenate(parts) for name, parts in inputs.items()}, np.concatenate(targets))


class Texts(nn.Module):
    """Token ids and mask -> embeddings."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.read, self.tower = Reading(), tower

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        embedding: Tensor = self.tower(self.read(input_ids, attention_mask))
        return embedding


def _called(one: Named, place: int) -> str:
    """A thing's name, and every other time one of its keywords."""
    return one.keywords[place // 2 % len(one.keywords)] if place % 2 and one.keywords else one.name


def _tokens(texts: Sequence[str]) -> Tensors:
    return token_rows(texts, published_file(WORDS, TOKENIZER).read_text(encoding="utf-8"))


def _run(network: nn.Module, *inputs: Array) -> Array:
    with torch.no_grad():
        found: Array = network(*map(torch.from_numpy, inputs)).numpy()
    return found


PLUGIN = Clip
