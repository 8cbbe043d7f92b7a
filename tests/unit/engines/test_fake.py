"""What only the fake engine does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import tiny
from tiny import graph_of

from serving.engines.fake import FakeEngine


@asynccontextmanager
async def started():
    engine = FakeEngine()
    yield engine
    await engine.close()


def test_runs_what_it_is_given_and_knows_every_type(tmp_path):
    outputs = [{"name": "y", "data_type": f"TYPE_{kind}", "dims": [2]} for kind in ("FP32", "INT64", "BOOL")]
    for i, output in enumerate(outputs):
        output["name"] = f"y{i}"
    tiny.add_plain(tmp_path)
    tiny.write_config(
        tmp_path / "double/config.pbtxt",
        tiny.config("double", input=[{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}], output=outputs),
    )

    async def main():
        async with started() as engine:
            graph = graph_of(tmp_path, "double")
            await engine.load(graph, [])
            rows = {"x": np.array([[0.25], [0.5]], np.float32)}
            run = await engine.run(graph.key, rows)
            assert run.outputs["y0"].tolist() == [[0.25, 0.75], [0.5, 0.0]], "a row's output depends on that row alone"
            assert {name: array.shape for name, array in run.outputs.items()} == dict.fromkeys(
                ("y0", "y1", "y2"), (2, 2)
            )
            text = await engine.run(graph.key, {"x": np.array([[b"a"]], np.object_)})
            assert text.outputs["y0"].tolist() == [[0.0, 0.5]]
            assert engine.runs == [(graph.key, 2), (graph.key, 1)]

    asyncio.run(main())
