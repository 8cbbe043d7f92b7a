"""Real text embeddings: MiniLM as its package has it, and a table of words taught by it that fits anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from exporters.data.emoji_names import LICENCE, PACKAGE, named_emoji, phrases_to_learn
from exporters.data.imagenet import imagenet_labels
from exporters.data.splits import HeldOut, Rows
from exporters.family import PARITY_ROWS, REFERENCE_ROWS, Family, Predict, spread
from exporters.measures.measured import Measured
from exporters.measures.retrieval import recall_at
from exporters.minilm import ATTRIBUTION, LONGEST, load_minilm, provenance, token_rows, tokenizer_json
from exporters.provenance import digest_arrays
from exporters.quantise import quantise
from exporters.static_words import Words, WordTable, make_word_table
from serving.repository.manifest import Data, Licence, Metric
from serving.tasks.embed import ATTENTION_MASK, EMBEDDING, INPUT_IDS, TEXT
from serving.tensors import Array, Tensors, rows

BATCH: Final = 64
LEAST_WORDS: Final = 2  # keywords that a query must have beside those of the name
TOKENIZER: Final = "tokenizer.json"


class MiniLm(Family[HeldOut]):
    """Sentences by their sense, 384 dimensions. Too large for git: `make zoo` publishes it."""

    model = "minilm"
    task = "embed"
    intended_use = "Embed English texts of up to 256 tokens, compared by the cosine: search, clusters, duplicates."
    preprocessing: ClassVar = {"text": {"tokenizer": TOKENIZER, "max_tokens": LONGEST, "pad_to": 16}}
    tolerance = 1e-3
    floors: ClassVar = {"recall_at_10": 0.60}
    free_axes: ClassVar = {INPUT_IDS: "length", ATTENTION_MASK: "length"}
    compact = True

    def licence(self) -> Licence:
        return Licence(spdx="Apache-2.0", source=provenance(), attribution=ATTRIBUTION)

    def labels(self) -> tuple[str, ...]:
        return ()

    def tokenizer(self) -> str:
        """The file that the version will have."""
        return json.dumps(tokenizer_json(), ensure_ascii=False)

    def files(self, network: nn.Module) -> Mapping[str, bytes]:
        del network
        return {TOKENIZER: self.tokenizer().encode()}

    def data(self, *, quick: bool) -> HeldOut:
        """Names of emoji, and words that people look for them by: what was not said in the name finds the name.

        Rows: token ids and mask, first of the queries, then of the names; targets: the name's row behind the queries,
        -1 for names.
        """
        del quick
        named, asked = _names_and_queries()
        texts = [*(query for _, query in asked), *named]
        inputs = token_rows(texts, self.tokenizer())
        targets = np.array([*(i for i, _ in asked), *(-1 for _ in named)], np.int64)
        card = Data(
            name="words for emoji",
            source=f"Debian's {PACKAGE}",
            licence=LICENCE,
            digest=digest_arrays([np.frombuffer("\n".join(texts).encode(), np.uint8), targets]),
            rows={"test": len(asked)},
            note=f"Each query is an emoji's keywords without the words of its name, among {len(named):,} names.",
        )
        return HeldOut(card, Rows(inputs, targets))

    def asked(self, data: HeldOut | None = None) -> Sequence[Tensors | str]:
        del data  # has no texts any more
        named, queries = _names_and_queries()
        texts = [*(query for _, query in queries), *named]
        return [texts[i] for i in spread(len(texts), REFERENCE_ROWS)]

    def network(self) -> nn.Module:
        return load_minilm()

    def graphs(self, network: nn.Module) -> Mapping[str, nn.Module]:
        return {TEXT: network}

    def graph_rows(self, network: nn.Module, data: HeldOut) -> Mapping[str, Tensors]:
        del network
        return {TEXT: rows(data.test.inputs, 0, PARITY_ROWS)}

    def measure_graphs(self, graphs: Mapping[str, Predict], data: HeldOut) -> Measured:
        vectors = _embedded(graphs[TEXT], data.test.inputs)
        asked = data.test.targets >= 0
        truth, names = data.test.targets[asked], int((~asked).sum())
        reached = recall_at(10, vectors[asked], vectors[~asked], truth)
        metric = Metric(value=reached, rows=len(truth), baseline=10 / names, baseline_name="guessing")
        return Measured({"recall_at_10": metric})


class Normalised(nn.Module):
    """A table of words as the task wants it: float32 [N, dimensions] of length 1."""

    def __init__(self, table: WordTable) -> None:
        super().__init__()
        self.table = table

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return functional.normalize(self.table(input_ids, attention_mask), dim=1)


class MiniLmStatic(MiniLm):
    """A table of 12,000 words in 128 dimensions: no transformer runs."""

    model = "minilm-static"
    intended_use = (
        "Embed English words and short phrases, to be compared by the cosine, where microseconds or megabytes count. "
        "The order of words is not seen; minilm, which taught it, is better with sentences."
    )
    preprocessing: ClassVar = {"text": {"tokenizer": TOKENIZER, "max_tokens": 512, "pad_to": 16}}
    tolerance = 1e-5
    floors: ClassVar = {"recall_at_10": 0.35}
    words: ClassVar = 12_000
    dimensions: ClassVar = 128

    def licence(self) -> Licence:
        source = f"a table of words made by tidegate out of {provenance()}"
        return Licence(spdx="Apache-2.0", source=source, attribution=ATTRIBUTION)

    def tokenizer(self) -> str:
        return _table(self.words, self.dimensions).tokenizer

    def network(self) -> nn.Module:
        return Normalised(
            WordTable(*quantise(make_word_table(self.words, self.dimensions, imagenet_labels()).vectors, 0, 8))
        )


def _table(words: int, dimensions: int) -> Words:
    """Taught on ImageNet's classes and the words of emoji, none of which says which words belong together."""
    return make_word_table(words, dimensions, (*imagenet_labels(), *phrases_to_learn()))


def _names_and_queries() -> tuple[list[str], list[tuple[int, str]]]:
    """Of emoji, and words that they are looked for by with the place of each one's name."""
    named = [(one.name, _others(one.name, one.keywords)) for one in named_emoji()]
    asked = [(i, " ".join(words)) for i, (_, words) in enumerate(named) if len(words) >= LEAST_WORDS]
    return [name for name, _ in named], asked


def _others(name: str, keywords: tuple[str, ...]) -> list[str]:
    """Keywords without a word of the name."""
    own = set(name.lower().split())
    return [word for word in keywords if not own & set(word.lower().split()) and word.isascii() and word.strip()]


def _embedded(predict: Predict, inputs: Tensors) -> Array:
    count = len(inputs[INPUT_IDS])
    return np.concatenate([predict(rows(inputs, i, min(i + BATCH, count)))[EMBEDDING] for i in range(0, count, BATCH)])


MiniLm.variants = (MiniLmStatic,)

PLUGIN = MiniLm
