"""The published clip as a judge of pictures: which of some names it finds on each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from exporters.data.pictures import as_png, encode_pictures
from exporters.graph_config import make_config
from exporters.minilm import token_rows
from exporters.parity import Served, serve
from exporters.published import published_file
from serving.codecs.preprocessing import ImagePreprocessing
from serving.picture_task import PIXELS
from serving.repository.manifest import MANIFEST, read_manifest
from serving.tasks.embed import EMBEDDING
from serving.tensors import Array

CLIP: Final = "clip"
WORDS: Final = "clip.text"
GRAPH: Final = "model.onnx"
BATCH: Final = 16


class Judge:
    """Sees pictures of any size as the gateway sees their files. names: their embeddings, float32 [names, D]."""

    def __init__(self, look: Served, names: Array, settings: ImagePreprocessing) -> None:
        self._look, self._names, self._settings = look, names, settings

    def places(self, pictures: Array, truth: Array) -> Array:
        """How many names fit each picture better than the true one: int64 [N] for uint8 [N, height, width, 3].

        truth: int64 [N], the names' numbers.
        """
        seen = encode_pictures([as_png(picture) for picture in pictures], self._settings)
        fits = self._look({PIXELS: seen})[EMBEDDING] @ self._names.T
        places: Array = (fits > np.take_along_axis(fits, truth[:, np.newaxis], axis=1)).sum(axis=1)
        return places


@contextmanager
def open_judge(names: Sequence[str]) -> Iterator[Judge]:
    """A judge who knows these names alone. PackageMissing: no clip is published in this checkout."""
    preprocessing = read_manifest(published_file(CLIP, MANIFEST), MANIFEST).preprocessing
    tokenizer = published_file(CLIP, preprocessing["text"]["tokenizer"]).read_text(encoding="utf-8")
    with _published(WORDS) as read, _published(CLIP) as look:
        embeddings = read(token_rows(names, tokenizer))[EMBEDDING]
        yield Judge(look, embeddings, ImagePreprocessing.model_validate(preprocessing["image"]))


@contextmanager
def _published(graph: str) -> Iterator[Served]:
    content = published_file(graph, GRAPH).read_bytes()
    with serve(content, make_config(content, graph, max_batch_size=BATCH, instances=1)) as served:
        yield served
