"""What only the engine of ONNX Runtime does. What all engines do is in tests/contract."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from itertools import pairwise

import numpy as np
import pytest
import tiny
from onnx import TensorProto, helper
from tiny import add_loop, graph_of, turns, write_graph

from serving.engine import ANY_TIME, Call, EngineOptions
from serving.engines import onnx
from serving.errors import DeadlinePassed, EngineFailed, ModelNotReady, RepositoryInvalid, TensorInvalid
from serving.repository.config import TensorSpec
from serving.threads import Threads


@asynccontextmanager
async def started(cores: int = 2):
    threads = Threads(cores, 0)
    engine = onnx.OnnxEngine(EngineOptions(threads))
    try:
        yield engine
    finally:
        await engine.close()
        threads.close()


def test_says_what_the_file_takes_when_the_configuration_does_not(tmp_path):
    tiny.add_plain(tmp_path)
    tiny.write_config(tmp_path / "double" / "config.pbtxt", tiny.config("double"))

    async def main():
        async with started() as engine:
            loaded = await engine.load(graph_of(tmp_path, "double"), [])
            assert loaded.inputs == (TensorSpec("x", "FP32", (-1,)),)
            assert loaded.outputs == (TensorSpec("y", "FP32", (-1,)),)

    asyncio.run(main())


def test_runs_models_without_a_batch_axis(tmp_path):
    tiny.add_plain(tmp_path)
    tiny.write_config(tmp_path / "double" / "config.pbtxt", tiny.config("double", max_batch_size=0))

    async def main():
        async with started() as engine:
            graph = graph_of(tmp_path, "double")
            loaded = await engine.load(graph, [])
            assert loaded.inputs == (TensorSpec("x", "FP32", (-1, -1)),)
            run = await engine.run(graph.key, {"x": np.ones((2, 3), np.float32)})
            assert run.outputs["y"].tolist() == [[2.0] * 3] * 2

    asyncio.run(main())


def test_measures_what_a_row_costs_at_each_warm_up_size(tmp_path):
    tiny.add_classifier(tmp_path)

    async def main():
        async with started() as engine:
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


def test_loads_beside_traffic_one_run_at_a_time_and_no_larger_than_pays(tmp_path):
    tiny.add_classifier(tmp_path)

    async def main():
        async with started() as engine:
            graph = graph_of(tmp_path)
            sizes = (1, 2, 4, 8)
            rows = [{"pixels": np.zeros((size, 8, 8, 3), np.uint8)} for size in sizes]
            loaded = await engine.load(graph, rows, quietly=True)
            tried = tuple(loaded.row_costs_s)
            assert tried == sizes[: len(tried)]
            costs = list(loaded.row_costs_s.values())
            assert all(later < sooner for sooner, later in pairwise(costs[:-1])), "it went on while more rows paid"
            assert len(tried) == len(sizes) or costs[-1] >= min(costs[:-1]), "and ended when they did not"
            run = await engine.run(graph.key, rows[3])
            assert run.batch_rows == 8

    asyncio.run(main())


@pytest.mark.parametrize(("stated", "field", "expected"), MISFITS.values(), ids=MISFITS.keys())
def test_names_where_configuration_and_file_disagree(tmp_path, stated, field, expected):
    folder = tiny.add_classifier(tmp_path)
    tiny.write_config(folder.parent / "config.pbtxt", tiny.config("colours", input=[stated]))

    async def main():
        async with started() as engine:
            with pytest.raises(RepositoryInvalid) as caught:
                await engine.load(graph_of(tmp_path), [])
            assert (caught.value.file, caught.value.field) == ("colours/config.pbtxt", field)
            assert expected in caught.value.expected

    asyncio.run(main())


def test_lets_go_of_a_model_whose_warm_up_fails(tmp_path):
    tiny.add_plain(tmp_path)

    async def main():
        async with started() as engine:
            graph = graph_of(tmp_path, "double")
            with pytest.raises(TensorInvalid):
                await engine.load(graph, [{"x": np.zeros((1, 1), np.int64)}])
            with pytest.raises(ModelNotReady):
                await engine.run(graph.key, {"x": np.zeros((1, 1), np.float32)})

    asyncio.run(main())


def test_tells_a_callers_values_from_a_breakdown(tmp_path):
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
        async with started() as engine:
            graph = graph_of(tmp_path, "pick")
            await engine.load(graph, [])
            with pytest.raises((TensorInvalid, EngineFailed)) as caught:
                await engine.run(graph.key, {"i": np.array([99])})
            assert "indices" not in str(caught.value), "nothing of the engine's own text reaches callers"
            run = await engine.run(graph.key, {"i": np.array([2])})
            assert run.outputs["y"].tolist() == [2.0]

    asyncio.run(main())


LONG_TURNS = 30_000_000  # of the graph `loop`: twenty seconds
SOON_S = 5.0


@pytest.mark.parametrize("limit", ["the caller's deadline", "the engine's own limit"])
def test_stops_a_run_that_takes_too_long(tmp_path, monkeypatch, limit):
    add_loop(tmp_path)
    graph = graph_of(tmp_path, "loop")

    async def main():
        async with started(cores=1) as engine:
            await engine.load(graph, [])
            started_s = time.monotonic()
            if limit == "the engine's own limit":
                monkeypatch.setattr(onnx, "RUN_LIMIT_S", 0.2)
                call = ANY_TIME
            else:
                call = Call(deadline_s=started_s + 0.2)
            with pytest.raises(DeadlinePassed):
                await engine.run(graph.key, turns(LONG_TURNS), call)
            assert 0.2 <= time.monotonic() - started_s < SOON_S
            run = await engine.run(graph.key, turns(2))  # the thread is free again
            assert run.outputs["y"] == pytest.approx(np.sin(np.sin(1)))

    asyncio.run(main())


def test_stops_a_run_that_nobody_waits_for(tmp_path):
    add_loop(tmp_path)
    graph = graph_of(tmp_path, "loop")

    async def main():
        async with started(cores=1) as engine:
            await engine.load(graph, [])
            started_s = time.monotonic()
            leaving = asyncio.create_task(engine.run(graph.key, turns(LONG_TURNS)))
            await asyncio.sleep(0)
            while engine._threads._owners["loop"].runs:  # until the one thread has taken it
                await asyncio.sleep(0.001)
            leaving.cancel()
            await engine.run(graph.key, turns(2))
            assert time.monotonic() - started_s < SOON_S
            assert leaving.cancelled()

    asyncio.run(main())


def test_runs_short_ones_beside_a_long_one(tmp_path):
    add_loop(tmp_path)
    graph = graph_of(tmp_path, "loop")

    async def main():
        async with started(cores=2) as engine:
            await engine.load(graph, [])
            long = asyncio.create_task(engine.run(graph.key, turns(LONG_TURNS)))
            await asyncio.sleep(0)
            for _ in range(5):
                await engine.run(graph.key, turns(2))
            assert not long.done()
            long.cancel()

    asyncio.run(main())


def test_on_a_gpu_leaves_the_shared_threads_to_work_that_needs_a_core(tmp_path, monkeypatch):
    """Nothing here has a GPU: the processor stands in for what is preferred to it."""
    monkeypatch.setattr(onnx, "PROVIDERS", ("CPUExecutionProvider",))
    add_loop(tmp_path)
    graph = graph_of(tmp_path, "loop")

    async def main():
        async with started(cores=1) as engine:
            before = set(threading.enumerate())
            await engine.load(graph, [])
            own = set(threading.enumerate()) - before
            assert any(thread.name.startswith("work-") for thread in own)
            long = asyncio.create_task(engine.run(graph.key, turns(LONG_TURNS)))
            await asyncio.sleep(0)
            assert (await engine._threads.prepare("photos", lambda: "decoded"))[0] == "decoded"
            assert not long.done()
            long.cancel()
            await asyncio.wait([long])
            await engine.unload(graph.key)
            assert not any(thread.is_alive() for thread in own if thread.name.startswith("work-"))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("instances", "stated", "threads"),
    [(1, None, 4), (2, None, 2), (8, None, 1), (2, "3", 3)],
    ids=["one run has all cores", "two share them", "more runs than cores", "as the configuration says"],
)
def test_shares_the_cores_among_the_runs(tmp_path, instances, stated, threads):
    parameters = {"intra_op_thread_count": {"string_value": stated}} if stated else {}
    tiny.add_plain(tmp_path, instance_group=[{"count": instances}], parameters=parameters)
    graph = graph_of(tmp_path, "double")

    async def main():
        async with started(cores=4) as engine:
            loaded = await engine.load(graph, [])
            assert loaded.slots == instances
            session = engine._sessions[graph.key]._session
            assert session.get_session_options().intra_op_num_threads == threads

    asyncio.run(main())


def test_gives_the_outputs_that_are_stated_and_no_others(tmp_path):
    value = helper.make_tensor_value_info
    write_graph(
        tmp_path / "two/1/model.onnx",
        [helper.make_node("Neg", ["x"], ["unasked"]), helper.make_node("Abs", ["x"], ["y"])],
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("unasked", TensorProto.FLOAT, ["n"]), value("y", TensorProto.FLOAT, ["n"])],
    )
    stated = {"name": "y", "data_type": "TYPE_FP32", "dims": []}
    tiny.write_config(tmp_path / "two/config.pbtxt", tiny.config("two", output=[stated]))
    graph = graph_of(tmp_path, "two")

    async def main():
        async with started() as engine:
            loaded = await engine.load(graph, [])
            assert loaded.outputs == (TensorSpec("y", "FP32", ()),)
            run = await engine.run(graph.key, {"x": np.array([-1, 2], np.float32)})
            assert {name: array.tolist() for name, array in run.outputs.items()} == {"y": [1, 2]}

    asyncio.run(main())


def probabilities_by_name():
    """What scikit-learn's exporter appends by default: a list of dictionaries."""
    element = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    return helper.make_value_info("z", helper.make_sequence_type_proto(element))


STRANGE = {
    "bfloat16": (
        helper.make_node("Identity", ["x"], ["z"]),
        helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["n", 2]),
        helper.make_tensor_value_info("z", TensorProto.BFLOAT16, ["n", 2]),
        "x",
    ),
    "maps": (
        helper.make_node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2]),
        probabilities_by_name(),
        "z",
    ),
}


@pytest.mark.parametrize(("node", "takes", "gives", "named"), STRANGE.values(), ids=STRANGE.keys())
def test_refuses_tensors_that_no_caller_could_send_or_get(tmp_path, node, takes, gives, named):
    write_graph(tmp_path / "strange/1/model.onnx", [node], [takes], [gives])
    tiny.write_config(tmp_path / "strange/config.pbtxt", tiny.config("strange"))

    async def main():
        async with started() as engine:
            with pytest.raises(RepositoryInvalid) as caught:
                await engine.load(graph_of(tmp_path, "strange"), [])
            assert (caught.value.file, caught.value.field) == ("strange/1/model.onnx", named)

    asyncio.run(main())


def test_goes_on_after_a_run_that_broke_down(tmp_path, capfd):
    """Reshape to a shape that does not hold the elements: known only when it runs, and no wrong type or rank."""
    value = helper.make_tensor_value_info
    write_graph(
        tmp_path / "shape/1/model.onnx",
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        [value("x", TensorProto.FLOAT, ["n"]), value("to", TensorProto.INT64, ["k"])],
        [value("y", TensorProto.FLOAT, None)],
    )
    tiny.write_config(tmp_path / "shape/config.pbtxt", tiny.config("shape", max_batch_size=0))
    graph = graph_of(tmp_path, "shape")
    x = np.ones(4, np.float32)

    async def main():
        async with started() as engine:
            await engine.load(graph, [])
            with pytest.raises(EngineFailed, match=r"^shape failed over this run\.$"):
                await engine.run(graph.key, {"x": x, "to": np.array([3])})
            run = await engine.run(graph.key, {"x": x, "to": np.array([2, 2])})
            assert run.outputs["y"].shape == (2, 2)

    asyncio.run(main())
