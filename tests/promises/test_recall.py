"""Of 100,000 vectors, and of real embeddings, the ten nearest are found: recall@10 >= .99 against looking at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
import pytest
from data_rig import need_names
from redis_rig import redis_server

from exporters.data.emoji_names import HELD_OUT, named_emoji, phrases_to_learn, split_names
from exporters.data.emoji_pairs import pictures
from exporters.families.clip import Clip
from exporters.minilm import token_rows
from loadtests.clusters import clustered, nearest, recall
from serving import plugins
from serving.index import FOLDER, Collection, Index, IndexOptions, Item, Source

COUNT, DIMENSIONS, K = 100_000, 384, 10
QUERIES = 500
BATCH = 1000
REPOSITORY = Path(__file__).parents[2] / "model_repository"
PATIENCE_S = 240


@pytest.fixture(scope="module")
def vectors():
    return clustered(COUNT, DIMENSIONS, 1)


@pytest.fixture(scope="module")
def queries(vectors):
    asked = clustered(QUERIES, DIMENSIONS, 2)
    return asked, nearest(vectors, asked, K)


@pytest.fixture(params=["local", "redis"])
def opened(request, tmp_path) -> Iterator[Callable[..., Index]]:
    """Opens the index of that name, on a store of its own."""
    plugin = plugins.find(FOLDER, request.param, "PLUGIN")
    if request.param == "local":
        yield lambda **options: plugin(IndexOptions(tmp_path), **options)
        return
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        yield lambda **_: plugin(IndexOptions(tmp_path, server.url))


def test_the_nearest_of_100_000_are_found(opened, vectors, queries):
    assert asyncio.run(whole(opened(), vectors, *queries)) >= 0.99


def test_the_nearest_of_real_embeddings_are_found(opened):
    """What clip makes of 600 emoji and of 4,000 words for emoji; asked by 200 names that it never learned."""
    need_names()
    items = np.concatenate([of_pictures(named_emoji()[::2][:600]), of_texts(phrases_to_learn()[:4000])])
    asked = of_texts([one.name for one in split_names(named_emoji(), HELD_OUT)[1]])
    assert asyncio.run(whole(opened(many=1000), items, asked, nearest(items, asked, K))) >= 0.99


def of_pictures(named):
    clip = onnxruntime.InferenceSession(REPOSITORY / "clip/1/model.onnx")
    pixels = pictures(named, Clip.preprocessing["image"], views=[0])
    return np.concatenate([clip.run(None, {"pixels": pixels[i : i + 16]})[0] for i in range(0, len(pixels), 16)])


def of_texts(texts):
    clip = onnxruntime.InferenceSession(REPOSITORY / "clip.text/1/model.onnx")
    return clip.run(None, token_rows(list(texts), (REPOSITORY / "clip/1/tokenizer.json").read_text()))[0]


async def whole(index, vectors, asked, truth):
    """Recall@10 of searches in an index that was filled with the vectors."""
    try:
        begun_s = time.perf_counter()
        await fill(index, vectors)
        filled_s = time.perf_counter() - begun_s
        await built(index, vectors[0])
        ready_s = time.perf_counter() - begun_s
        reached, p50_s = await measured(index, asked, truth)
    finally:
        await index.close()
    print(
        f"\n{type(index).__name__}, {vectors.shape}: recall@10 {reached:.4f}, p50 {p50_s * 1e3:.2f} ms alone; "
        f"{filled_s:.0f} s to add, {ready_s:.0f} s until its graph is built"
    )
    return reached


async def fill(index, vectors):
    await index.create(Collection("c", "none", "2026-01-01T00:00:00+00:00"))
    for start in range(0, len(vectors), BATCH):
        some = vectors[start : start + BATCH]
        items = [Item(str(start + i), Source("vector"), {"even": i % 2 == 0}) for i in range(len(some))]
        await index.put("c", items, {1: some})


async def built(index, query):
    """Until searches go by the graph: the local index builds it beside them."""
    await index.search("c", 1, query, K, None)
    deadline_s = time.monotonic() + PATIENCE_S
    while any(space.exact for space in getattr(index, "_spaces", {}).values()):
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.2)
        await index.search("c", 1, query, K, None)


async def measured(index, queries, truth):
    """Recall@10 and the median seconds of a search."""
    found, seconds = [], []
    for query in queries:
        begun_s = time.perf_counter()
        hits = await index.search("c", 1, query, K, None)
        seconds.append(time.perf_counter() - begun_s)
        found.append([int(hit.id) for hit in hits])
        assert np.all(np.diff([hit.score for hit in hits]) <= 0)
    return recall(found, truth), median(seconds)
