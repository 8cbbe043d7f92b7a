"""What every engine must do, on one tiny repository."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest
import tiny
from onnx import TensorProto, helper, numpy_helper, save

from serving import plugins
from serving.engine import ANY_TIME, FOLDER, Call, EngineOptions
from serving.errors import DeadlinePassed, EngineFailed, ModelNotReady, RepositoryInvalid, TensorInvalid
from serving.repository.config import TensorSpec
from serving.repository.layout import SINGLE_GRAPH, scan
from serving.threads import Threads

ENGINES = plugins.names(FOLDER)
ROW = {"pixels": np.zeros((1, 8, 8, 3), np.uint8)}


def graph_of(root, name="colours"):
    return scan(root).models[name].versions[1].graphs[SINGLE_GRAPH]


@asynccontextmanager
async def engine_of(name: str, cores: int = 2):
    threads = Threads(cores, 0)
    engine = plugins.find(FOLDER, name, "PLUGIN")(EngineOptions(threads))
    try:
        yield engine
    finally:
        await engine.close()
        threads.close()


@pytest.mark.parametrize("name", ENGINES)
def test_loads_runs_and_unloads(tmp_path, name):
    tiny.add_classifier(tmp_path, instance_group=[{"count": 3}])
    graph = graph_of(tmp_path)

    async def main():
        async with engine_of(name) as engine:
            loaded = await engine.load(graph, [ROW])
            assert loaded.slots == 3
            assert loaded.inputs == (TensorSpec("pixels", "UINT8", (8, 8, 3)),)
            assert loaded.outputs == (TensorSpec("probabilities", "FP32", (3,)),)
            rng = np.random.default_rng(0)
            pixels = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
            run = await engine.run(graph.key, {"pixels": pixels})
            assert run.outputs["probabilities"].shape == (5, 3)
            assert run.batch_rows == 5
            assert run.run_s >= 0
            alone = [await engine.run(graph.key, {"pixels": pixels[i : i + 1]}) for i in range(5)]
            together = run.outputs["probabilities"]
            np.testing.assert_allclose(np.concatenate([one.outputs["probabilities"] for one in alone]), together, 1e-6)
            await engine.unload(graph.key)
            await engine.unload(graph.key)
            with pytest.raises(ModelNotReady):
                await engine.run(graph.key, ROW)

    asyncio.run(main())


@pytest.mark.parametrize("name", ENGINES)
def test_several_runs_go_on_at_once(tmp_path, name):
    tiny.add_classifier(tmp_path, instance_group=[{"count": 4}])
    graph = graph_of(tmp_path)

    async def main():
        async with engine_of(name) as engine:
            await engine.load(graph, [])
            runs = await asyncio.gather(*(engine.run(graph.key, ROW) for _ in range(20)))
            assert {run.outputs["probabilities"].shape for run in runs} == {(1, 3)}

    asyncio.run(main())


@pytest.mark.parametrize("name", ENGINES)
def test_unloading_waits_for_the_runs_that_go_on(tmp_path, name):
    tiny.add_classifier(tmp_path)
    graph = graph_of(tmp_path)

    async def main():
        async with engine_of(name) as engine:
            await engine.load(graph, [])
            run = asyncio.create_task(engine.run(graph.key, ROW))
            await asyncio.sleep(0)
            await engine.unload(graph.key)
            assert run.done()
            assert (await run).outputs["probabilities"].shape == (1, 3)

    asyncio.run(main())


def write_graph(path, nodes, inputs, outputs, constants=()):
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def test_onnx_says_what_the_file_takes_when_the_configuration_does_not(tmp_path):
    tiny.add_plain(tmp_path)
    tiny.write_config(tmp_path / "double" / "config.pbtxt", tiny.config("double"))

    async def main():
        async with engine_of("onnx") as engine:
            loaded = await engine.load(graph_of(tmp_path, "double"), [])
            assert loaded.inputs == (TensorSpec("x", "FP32", (-1,)),)
            assert loaded.outputs == (TensorSpec("y", "FP32", (-1,)),)

    asyncio.run(main())


def test_onnx_runs_models_without_a_batch_axis(tmp_path):
    tiny.add_plain(tmp_path)
    tiny.write_config(tmp_path / "double" / "config.pbtxt", tiny.config("double", max_batch_size=0))

    async def main():
        async with engine_of("onnx") as engine:
            graph = graph_of(tmp_path, "double")
            loaded = await engine.load(graph, [])
            assert loaded.inputs == (TensorSpec("x", "FP32", (-1, -1)),)
            run = await engine.run(graph.key, {"x": np.ones((2, 3), np.float32)})
            assert run.outputs["y"].tolist() == [[2.0] * 3] * 2

    asyncio.run(main())


def test_onnx_measures_what_a_row_costs_at_each_warm_up_size(tmp_path):
    tiny.add_classifier(tmp_path)

    async def main():
        async with engine_of("onnx") as engine:
            sizes = [{"pixels": np.zeros((n, 8, 8, 3), np.uint8)} for n in (1, 4)]
            loaded = await engine.load(graph_of(tmp_path), sizes)
            assert set(loaded.row_costs_s) == {1, 4}
            assert all(cost > 0 for cost in loaded.row_costs_s.values())

    asyncio.run(main())


MISFITS = {
    "another name": ({"name": "x", "data_type": "TYPE_UINT8", "dims": [8, 8, 3]}, "input[0].name", "one of pixels"),
    "another type": (
        {"name": "pixels", "data_type": "TYPE_FP32", "dims": [8, 8, 3]},
        "input[0].data_type",
        "TYPE_UINT8",
    ),
    "another shape": ({"name": "pixels", "data_type": "TYPE_UINT8", "dims": [9, 8, 3]}, "input[0].dims", "[8, 8, 3]"),
    "another rank": ({"name": "pixels", "data_type": "TYPE_UINT8", "dims": [8, 8]}, "input[0].dims", "[8, 8, 3]"),
}


@pytest.mark.parametrize(("stated", "field", "expected"), MISFITS.values(), ids=MISFITS.keys())
def test_onnx_names_where_configuration_and_file_disagree(tmp_path, stated, field, expected):
    folder = tiny.add_classifier(tmp_path)
    tiny.write_config(folder.parent / "config.pbtxt", tiny.config("colours", input=[stated]))

    async def main():
        async with engine_of("onnx") as engine:
            with pytest.raises(RepositoryInvalid) as caught:
                await engine.load(graph_of(tmp_path), [])
            assert (caught.value.file, caught.value.field) == ("colours/config.pbtxt", field)
            assert expected in caught.value.expected

    asyncio.run(main())


def test_onnx_refuses_a_file_that_is_no_model(tmp_path):
    (tiny.add_plain(tmp_path) / "model.onnx").write_bytes(b"not a model")

    async def main():
        async with engine_of("onnx") as engine:
            with pytest.raises(EngineFailed) as caught:
                await engine.load(graph_of(tmp_path, "double"), [])
            assert str(tmp_path) not in str(caught.value)

    asyncio.run(main())


def test_onnx_lets_go_of_a_model_whose_warm_up_fails(tmp_path):
    tiny.add_plain(tmp_path)

    async def main():
        async with engine_of("onnx") as engine:
            graph = graph_of(tmp_path, "double")
            with pytest.raises(TensorInvalid):
                await engine.load(graph, [{"x": np.zeros((1, 1), np.int64)}])
            with pytest.raises(ModelNotReady):
                await engine.run(graph.key, {"x": np.zeros((1, 1), np.float32)})

    asyncio.run(main())


def test_onnx_tells_a_callers_values_from_a_breakdown(tmp_path):
    """Gather with an index that is out of range: ONNX Runtime finds it only when it runs."""
    value = helper.make_tensor_value_info
    write_graph(
        tmp_path / "pick/1/model.onnx",
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        [value("i", TensorProto.INT64, ["n"])],
        [value("y", TensorProto.FLOAT, ["n"])],
        [("table", np.arange(3, dtype=np.float32))],
    )
    tiny.write_config(tmp_path / "pick/config.pbtxt", tiny.config("pick"))

    async def main():
        async with engine_of("onnx") as engine:
            graph = graph_of(tmp_path, "pick")
            await engine.load(graph, [])
            with pytest.raises((TensorInvalid, EngineFailed)) as caught:
                await engine.run(graph.key, {"i": np.array([99])})
            assert "indices" not in str(caught.value), "nothing of the engine's own text reaches callers"
            run = await engine.run(graph.key, {"i": np.array([2])})
            assert run.outputs["y"].tolist() == [2.0]

    asyncio.run(main())


def endless(path):
    """n int64 [1] -> y float32 [1]: a loop of n turns."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Sin", ["at"], ["next"]),
        ],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("at", TensorProto.FLOAT, [1]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [1])],
    )
    write_graph(
        path,
        [
            helper.make_node("Squeeze", ["n"], ["turns"]),
            helper.make_node("Loop", ["turns", "yes", "start"], ["y"], body=body),
        ],
        [value("n", TensorProto.INT64, [1])],
        [value("y", TensorProto.FLOAT, [1])],
        [("yes", np.array(True)), ("start", np.ones(1, np.float32))],
    )


def test_onnx_stops_a_run_at_its_deadline(tmp_path):
    endless(tmp_path / "loop/1/model.onnx")
    tiny.write_config(tmp_path / "loop/config.pbtxt", tiny.config("loop", max_batch_size=0))

    async def main():
        async with engine_of("onnx") as engine:
            graph = graph_of(tmp_path, "loop")
            await engine.load(graph, [])
            started_s = time.monotonic()
            with pytest.raises(DeadlinePassed):
                await engine.run(graph.key, {"n": np.array([10**12])}, Call(deadline_s=started_s + 0.2))
            assert time.monotonic() - started_s < 5
            run = await engine.run(graph.key, {"n": np.array([2])}, ANY_TIME)  # the slot is free again
            assert run.outputs["y"].shape == (1,)

    asyncio.run(main())


def test_onnx_stops_a_run_that_nobody_waits_for(tmp_path):
    endless(tmp_path / "loop/1/model.onnx")
    tiny.write_config(tmp_path / "loop/config.pbtxt", tiny.config("loop", max_batch_size=0))

    async def main():
        async with engine_of("onnx", cores=1) as engine:
            graph = graph_of(tmp_path, "loop")
            await engine.load(graph, [])
            run = asyncio.create_task(engine.run(graph.key, {"n": np.array([10**12])}))
            await asyncio.sleep(0.1)
            run.cancel()
            await asyncio.wait([run])
            await asyncio.wait_for(engine.run(graph.key, {"n": np.array([1])}), 5)  # the one thread is free again

    asyncio.run(main())


def test_onnx_refuses_types_that_the_protocol_cannot_carry(tmp_path):
    value = helper.make_tensor_value_info
    write_graph(
        tmp_path / "cast/1/model.onnx",
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)],
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.BFLOAT16, ["n"])],
    )
    tiny.write_config(tmp_path / "cast/config.pbtxt", tiny.config("cast"))

    async def main():
        async with engine_of("onnx") as engine:
            with pytest.raises(RepositoryInvalid) as caught:
                await engine.load(graph_of(tmp_path, "cast"), [])
            assert (caught.value.file, caught.value.field) == ("cast/1/model.onnx", "y")

    asyncio.run(main())


def test_fake_runs_what_it_is_given_and_knows_every_type(tmp_path):
    outputs = [{"name": "y", "data_type": f"TYPE_{kind}", "dims": [2]} for kind in ("FP32", "INT64", "BOOL")]
    for i, output in enumerate(outputs):
        output["name"] = f"y{i}"
    tiny.add_plain(tmp_path)
    tiny.write_config(
        tmp_path / "double/config.pbtxt",
        tiny.config("double", input=[{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}], output=outputs),
    )

    async def main():
        async with engine_of("fake") as engine:
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
