"""search: what collections cost beside an index in the caller's own process, one query at a time.

The gateway keeps its vectors on disk, follows other gateways' writes and answers over HTTP; FAISS does none of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import faiss
import numpy as np

from loadtests.bench import bodies, search_model
from loadtests.bench.comparison import AnswersDiffer, Bar, Comparison, Contender, Turns, shares, take_turns
from loadtests.bench.wrk import Load
from loadtests.clusters import Vectors, clustered, nearest, recall
from loadtests.gateway_process import gateway
from serving import plugins
from serving.index import FOLDER, Collection, Index, IndexOptions, Item, Source

COUNT: Final = 100_000
DIMENSIONS: Final = 384  # as of all-MiniLM-L6-v2
QUERIES: Final = 500
K: Final = 10
LEAST_RECALL: Final = 0.99
LIMIT_S: Final = 2e-3  # for half of the searches, in the gateway
BUILD_LIMIT_S: Final = 240.0
BY_GRAPH_S: Final = 4e-3  # reading 150 MB of vectors takes longer
PUT_AT_ONCE: Final = 1000
COLLECTION: Final = "bench"
# What the local index has too: serving/local_index/memory.py.
CONNECTIVITY: Final = 32
BREADTH_ADDING: Final = 128
BREADTH_SEARCHING: Final = 96

OVER_HTTP: Final = "tidegate, over HTTP"
INSIDE: Final = "tidegate, in the gateway"
FLAT: Final = "FAISS flat"
HNSW: Final = "FAISS HNSW"

Find: TypeAlias = Callable[[int], tuple[list[int], float]]  # number of a query -> the rows found, and its seconds


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is searched, float32 [n, dimensions], and for what, float32 [queries, dimensions]; all of length 1."""

    title: str
    vectors: Vectors
    queries: Vectors


def in_clusters() -> Corpus:
    """As embeddings lie."""
    title = f"{COUNT:,} vectors of {DIMENSIONS} dimensions in clusters"
    return Corpus(title, clustered(COUNT, DIMENSIONS, 1), clustered(QUERIES, DIMENSIONS, 2))


def compare(turns: Turns, corpus: Corpus) -> Comparison:
    """AnswersDiffer, ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="search-") as folder:
        repository, state = Path(folder) / "repository", Path(folder) / "state"
        search_model.publish(repository, corpus.vectors.shape[1])
        state.mkdir()
        asyncio.run(fill(state, corpus.vectors))
        alone = in_process(corpus)
        with gateway(repository, state=state) as url, served(url, corpus.queries) as ours:
            finds = {**ours, **alone}
            wait_for_graph(finds[INSIDE], len(corpus.queries))
            recalls = recalls_of(finds, corpus)
            contenders = {name: Contender(f"{name} (recall {recalls[name]:.4f})", 1) for name in finds}
            loads = take_turns(
                {contenders[name]: _measuring(find, corpus, turns.seconds) for name, find in finds.items()},
                turns.rounds,
            )
    half_s = median(load.p50_s for load in loads[contenders[INSIDE]])
    return Comparison(
        name="search",
        title=f"{corpus.title}, the {K} nearest, one query at a time",
        unit="searches/s",
        share_of=HNSW,
        loads=loads,
        shares=shares(loads, lambda _: contenders[HNSW]),
        bars=[
            Bar(f"search: recall@{K}", LEAST_RECALL, recalls[OVER_HTTP]),
            Bar("search: 2 ms over the gateway's p50", 1.0, LIMIT_S / half_s),
        ],
    )


async def fill(state: Path, vectors: Vectors) -> None:
    """The collection, as a gateway on that state finds it. The items' ids are the vectors' rows."""
    index: Index = plugins.find(FOLDER, "local", "PLUGIN")(IndexOptions(state))
    try:
        await index.create(Collection(COLLECTION, search_model.NAME, "2026-01-01T00:00:00+00:00"))
        for start in range(0, len(vectors), PUT_AT_ONCE):
            some = vectors[start : start + PUT_AT_ONCE]
            items = [Item(str(start + i), Source("vector"), {}) for i in range(len(some))]
            await index.put(COLLECTION, items, {1: some})
    finally:
        await index.close()


def in_process(corpus: Corpus) -> Mapping[str, Find]:
    """FAISS, exact and by a graph as the gateway's, on one thread."""
    dimensions = corpus.vectors.shape[1]
    flat = faiss.IndexFlatIP(dimensions)
    graph = faiss.IndexHNSWFlat(dimensions, CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = BREADTH_ADDING, BREADTH_SEARCHING
    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    for index in (flat, graph):
        index.add(corpus.vectors)
    faiss.omp_set_num_threads(1)

    def find(index: faiss.Index, number: int) -> tuple[list[int], float]:
        begun_s = time.perf_counter()
        _, rows = index.search(corpus.queries[number : number + 1], K)
        return rows[0].tolist(), time.perf_counter() - begun_s

    return {FLAT: lambda number: find(flat, number), HNSW: lambda number: find(graph, number)}


@contextmanager
def served(url: str, queries: Vectors) -> Iterator[Mapping[str, Find]]:
    """The gateway, by the clock of its caller, who keeps the connection, and by its own."""
    asked = [json.dumps({"vector": query.tolist(), "k": K}).encode() for query in queries]
    caller = HTTPConnection(urlsplit(url).netloc, timeout=60)

    def post(number: int) -> tuple[list[int], float, float]:
        begun_s = time.perf_counter()
        caller.request("POST", f"/v1/collections/{COLLECTION}/search", asked[number], {"content-type": bodies.JSON})
        answer = caller.getresponse()
        body = answer.read()
        took_s = time.perf_counter() - begun_s
        if answer.status != 200:
            raise AnswersDiffer(f"{url} answers {answer.status}: {body[:300].decode(errors='replace')}")
        rows = [int(hit["id"]) for hit in json.loads(body)["hits"]]
        return rows, took_s, told_s(answer.getheader("server-timing", ""))

    def over_http(number: int) -> tuple[list[int], float]:
        rows, took_s, _ = post(number)
        return rows, took_s

    def inside(number: int) -> tuple[list[int], float]:
        rows, _, gateway_s = post(number)
        return rows, gateway_s

    with closing(caller):
        yield {OVER_HTTP: over_http, INSIDE: inside}


def told_s(server_timing: str) -> float:
    """All stages of a Server-Timing header together: the index and its ranking, without HTTP, JSON and the collection's
    counts. Source: https://www.w3.org/TR/server-timing/
    """
    return sum(map(float, re.findall(r"dur=([\d.]+)", server_timing))) / 1e3


def wait_for_graph(find: Find, count: int) -> None:
    """Until the gateway no longer looks at all vectors: it builds its graph beside the searches. AnswersDiffer."""
    limit_s = time.monotonic() + BUILD_LIMIT_S
    while median(find(number % count)[1] for number in range(9)) > BY_GRAPH_S:
        if time.monotonic() > limit_s:
            raise AnswersDiffer(f"search: after {BUILD_LIMIT_S:.0f} s the gateway still looks at all vectors.")
        time.sleep(1)


def recalls_of(finds: Mapping[str, Find], corpus: Corpus) -> Mapping[str, float]:
    """The share of the true neighbours that each finds."""
    truth = nearest(corpus.vectors, corpus.queries, K)
    return {name: recall([find(i)[0] for i in range(len(corpus.queries))], truth) for name, find in finds.items()}


def _measuring(find: Find, corpus: Corpus, seconds: float) -> Callable[[], Load]:
    return lambda: measure(find, len(corpus.queries), seconds)


def measure(find: Find, count: int, seconds: float) -> Load:
    """One query after another, over and over."""
    taken_s: list[float] = []
    end_s = time.monotonic() + seconds
    for number in cycle(range(count)):
        taken_s.append(find(number)[1])
        if time.monotonic() >= end_s:
            break
    return Load(len(taken_s) / sum(taken_s), float(np.percentile(taken_s, 50)), float(np.percentile(taken_s, 99)))
