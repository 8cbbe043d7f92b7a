"""What tidegate relies on of a Triton that it does not drive: versions by lists, faults, words of errors.

Measured with Triton core 2.51.0; deploy/triton/README.md says what follows. When one of these fails with a later one,
the engine that drives it is to be read again.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager

import grpc
import numpy as np
import psutil
import pytest
import tiny
from grpc import StatusCode
from redis_rig import until
from triton_rig import TritonServer, config_of, request_of

WHOLE = "--disable-auto-complete-config"  # tiny's configurations are, and loads take .2 s in place of 1.3
ONE = [{"count": 1}]
ROW = {"pixels": np.zeros((1, 8, 8, 3), np.uint8)}
NOT_READY = "Request for unknown model: 'colours' version 2 is not at ready state"
DEAD_STUB = "Stub process 'colours_0_0' is not healthy."
STEPS = 3000  # of the slow model: .4 s
QUEUED = 40


def add_three(root):
    for number in (1, 2, 3):
        tiny.add_classifier(root, number=number, bias=number, instance_group=ONE)


@pytest.fixture
def server(tmp_path):
    add_three(tmp_path / "models")
    with TritonServer(tmp_path / "models", tmp_path / "triton", WHOLE) as server:
        yield server


@pytest.fixture(scope="module")
def resident(tmp_path_factory):
    """For tests that change nothing: version 1 resident, 2 dropped, 3 never asked for, another model never loaded."""
    folder = tmp_path_factory.mktemp("resident")
    add_three(folder / "models")
    tiny.add_plain(folder / "models")
    with TritonServer(folder / "models", folder / "triton", WHOLE) as server:
        load(server, 1, 2)
        load(server, 1)
        until(lambda: server.client.index()["colours/2"].state == "UNAVAILABLE", "version 2 is gone")
        yield server


def load(server, *versions, **fields):
    config = config_of(server.repository, "colours", versions)
    for name, value in fields.items():
        setattr(config, name, value)
    server.client.load("colours", config)


def ready(server):
    return {
        int(name.partition("/")[2])
        for name, entry in server.client.index().items()
        if name.startswith("colours/") and entry.state == "READY"
    }


def pids(server):
    """Version -> process that runs it; of models with one instance."""
    return {int(name.partition("/")[0]): stub.pid for name, stub in server.stubs("colours").items()}


def refused(call, *args):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args)
    return caught.value.code(), caught.value.details()


def answers_as(server, version):
    """That it is this version which answers: tiny's bias is its number."""
    first = server.client.infer("colours", ROW, version)["probabilities"][0, 0]
    return first == pytest.approx(np.exp(version) / (np.exp(version) + 2), abs=1e-5)


@contextmanager
def traffic(server, version=1):
    """Requests of this version, one after another, until the block ends: none of them may fail."""
    failures, seconds, over = [], [], threading.Event()

    def ask():
        while not over.wait(0.001):
            started_s = time.monotonic()
            try:
                server.client.infer("colours", ROW, version)
            except grpc.RpcError as error:
                failures.append((error.code(), error.details()))
            seconds.append(time.monotonic() - started_s)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    print(f"{len(seconds)} requests meanwhile, the slowest took {max(seconds) * 1000:.0f} ms")
    assert len(seconds) >= 5
    assert failures == []


def timed(what, call, *args, **options):
    started_s = time.monotonic()
    call(*args, **options)
    print(f"{what}: {(time.monotonic() - started_s) * 1000:.0f} ms")


def test_versions_come_and_go_while_others_answer(server):
    """A list with one more loads that one alone (.12 to .2 s); the processes of the others stay as they are. One with
    one less is answered in 2 ms, before the version is gone: that refuses at once, and is UNLOADING for 1.1 s."""
    load(server, 1)
    first = pids(server)[1]
    with traffic(server):
        timed("one version more", load, server, 1, 2)
        second = pids(server)[2]
        timed("one version more", load, server, 1, 2, 3)
        assert ready(server) == {1, 2, 3}
        assert all(answers_as(server, version) for version in (1, 2, 3))
        timed("one version less", load, server, 1, 3)
        assert server.client.index()["colours/2"].state == "UNLOADING"
        assert refused(server.client.infer, "colours", ROW, 2) == (StatusCode.UNAVAILABLE, NOT_READY)
        until(lambda: server.client.index()["colours/2"] == ("UNAVAILABLE", "unloaded"), "version 2 is gone")
        timed("the same list again", load, server, 1, 3)
    assert pids(server)[1] == first
    assert not psutil.pid_exists(second)


def test_a_version_that_is_unloading_can_be_loaded_again(server):
    load(server, 1, 2)
    load(server, 1)
    load(server, 1, 2)
    assert ready(server) == {1, 2}
    assert answers_as(server, 2)


def test_a_listed_version_without_a_folder_is_left_out_with_no_word(server):
    """The load succeeds, the index does not mention it, and what the list does not name is dropped all the same. A list
    of none but such is refused, and changes nothing."""
    load(server, 1, 2)
    load(server, 1, 9)
    assert ready(server) == {1}
    assert "colours/9" not in server.client.index()
    code, details = refused(load, server, 9)
    assert code == StatusCode.INVALID_ARGUMENT
    assert "at least one version must be available under the version policy of model 'colours'" in details
    assert ready(server) == {1}


def test_lists_sent_at_once_undo_each_other(server):
    """Each is answered as a success, one after the other; the last is what stands."""
    load(server, 1)
    for _ in range(3):
        threads = [threading.Thread(target=load, args=(server, 1, other)) for other in (2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ready(server) in ({1, 2}, {1, 3})


def test_an_override_stands_until_the_file_is_newer(server):
    """A plain load then takes the file's policy, which is the highest version alone; so it does after an unload."""
    load(server, 1, 2)
    server.client.load("colours")
    assert ready(server) == {1, 2}
    os.utime(server.repository / "colours/config.pbtxt")
    server.client.load("colours")
    assert ready(server) == {3}
    load(server, 1, 2)
    server.client.unload("colours")
    assert ready(server) == set()
    server.client.load("colours")
    assert ready(server) == {3}


@pytest.mark.parametrize("number", [4, 5], ids=["damaged file", "no file"])
def test_a_broken_version_changes_nothing_else(server, number):
    """A load succeeds whole or not at all: what it would have added goes again, what it would have dropped stays."""
    folder = server.repository / "colours" / str(number)
    folder.mkdir()
    if number == 4:
        (folder / "model.onnx").write_bytes(b"damaged")
    load(server, 1, 2)
    before = pids(server)
    with traffic(server):
        code, details = refused(load, server, 1, 3, number)
        assert ready(server) == {1, 2}
        assert {version: pids(server)[version] for version in (1, 2)} == before
    assert code == StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"load failed for model 'colours': version {number} is at UNAVAILABLE state: Internal: ")
    assert f"ONNX Runtime cannot load {folder}/model.onnx" in details
    entry = server.client.index()[f"colours/{number}"]
    assert entry.state == "UNAVAILABLE"
    assert f"ONNX Runtime cannot load {folder}/model.onnx" in entry.reason
    assert server.client.is_ready("colours")
    assert not server.client.is_ready("colours", number)
    code, details = refused(server.client.infer, "colours", ROW, number)
    assert code == StatusCode.UNAVAILABLE
    assert details.endswith(f"version {number} is not at ready state")


def test_a_list_that_changes_another_field_loads_all_of_it_anew(server):
    """The old processes answer until the new ones can: no request fails."""
    load(server, 1, 2)
    before = pids(server)
    with traffic(server):
        timed("another max_batch_size", load, server, 1, 2, max_batch_size=4)
        after = pids(server)
    assert not set(before.values()) & set(after.values())


def test_more_instances_are_added_beside_those_that_run(server):
    load(server, 1, 2)
    before = {stub.pid for stub in server.stubs("colours").values()}
    config = config_of(server.repository, "colours", (1, 2))
    config.instance_group[0].count = 2
    with traffic(server):
        timed("two instances in place of one", server.client.load, "colours", config)
    after = {stub.pid for stub in server.stubs("colours").values()}
    assert before < after
    assert len(after) == 4


def test_a_version_whose_files_are_newer_is_loaded_anew_by_the_same_list(server):
    """Any file of its folder, manifest.json too; that version alone, and no request fails."""
    load(server, 1, 2)
    before = pids(server)
    os.utime(server.repository / "colours/1/manifest.json")
    with traffic(server):
        load(server, 1, 2)
        after = pids(server)
    assert after[1] != before[1]
    assert after[2] == before[2]


def test_a_killed_stub_is_ready_and_answers_nobody(server):
    """Each request waits its second, in turn. The same list heals nothing; a list without the version and then one with
    it does, and leaves the others alone. With no other version it takes an unload. (What was dropped so is never quite
    gone: were it not loaded again, it would stay UNLOADING, and SIGTERM take its 30 s.)"""
    load(server, 1, 2)
    psutil.Process(pids(server)[1]).kill()
    started_s = time.monotonic()
    assert refused(server.client.infer, "colours", ROW, 1) == (StatusCode.INTERNAL, DEAD_STUB)
    print(f"refused after {time.monotonic() - started_s:.2f} s")
    assert ready(server) == {1, 2}
    assert server.client.is_ready("colours", 1)
    load(server, 1, 2)
    assert refused(server.client.infer, "colours", ROW, 1) == (StatusCode.INTERNAL, DEAD_STUB)
    with traffic(server, version=2):
        load(server, 2)
        load(server, 1, 2)
    assert answers_as(server, 1)

    psutil.Process(pids(server)[1]).kill()
    server.client.unload("colours")
    load(server, 1, 2)
    assert answers_as(server, 1)


def test_requests_in_flight_hear_of_a_killed_stub(tmp_path):
    tiny.add_slow(tmp_path / "models", instance_group=ONE)
    with TritonServer(tmp_path / "models", tmp_path / "triton", WHOLE) as server:
        server.client.load("slow")
        waiting = server.client.infer_later("slow", slow(STEPS))
        time.sleep(0.1)
        server.stubs("slow")["1/slow_0_0"].kill()
        assert refused(waiting.result) == (StatusCode.INTERNAL, "Stub process 'slow_0_0' is not healthy.")


def test_a_model_that_is_unloaded_finishes_what_it_was_asked(tmp_path):
    tiny.add_slow(tmp_path / "models", instance_group=ONE)
    with TritonServer(tmp_path / "models", tmp_path / "triton", WHOLE) as server:
        server.client.load("slow")
        server.client.infer("slow", slow(1))
        waiting = server.client.infer_later("slow", slow(STEPS))
        time.sleep(0.1)
        timed("unload", server.client.unload, "slow")
        assert server.client.index()["slow/1"] == ("UNLOADING", "")
        assert not server.client.is_ready("slow", 1)
        words = "Request for unknown model: 'slow' has no available versions"
        assert refused(server.client.infer, "slow", slow(1)) == (StatusCode.NOT_FOUND, words)
        words = "Request for unknown model: 'slow' version 1 is not at ready state"
        assert refused(server.client.infer, "slow", slow(1), 1) == (StatusCode.UNAVAILABLE, words)
        assert waiting.result().model_version == "1"


def test_a_killed_server_starts_again_on_its_ports(server):
    load(server, 1, 2)
    waiting = server.client
    os.kill(server.pid, 9)
    code, details = refused(waiting.infer, "colours", ROW, 1)
    print(f"just killed: {code.name} {details}")
    assert code == StatusCode.UNAVAILABLE
    until(lambda: "Connection refused" in refused(waiting.infer, "colours", ROW, 1)[1], "the port refuses")
    server.kill()
    timed("start", server.start)
    assert ready(server) == set()
    load(server, 1, 2)
    assert answers_as(server, 2)


def test_a_paused_server_answers_nothing_and_then_all(server):
    load(server, 1)
    server.pause()
    code, _ = refused(lambda: server.client.stub.ModelInfer(request_of("colours", ROW, 1), timeout=0.3))
    assert code == StatusCode.DEADLINE_EXCEEDED
    server.resume()
    assert answers_as(server, 1)


def slow(steps):
    return {"x": np.full((1, 1), steps, np.float32)}


@pytest.mark.parametrize("batching", [False, True], ids=["plain", "dynamic_batching"])
def test_queued_requests_whose_callers_hung_up_are_not_run(tmp_path, batching):
    """Triton drops none of them without dynamic_batching, and with it all but up to two batches that it had gathered;
    what reaches the backend is asked there whether it was cancelled. Triton counts those as successes, with no seconds.
    """
    fields = {"dynamic_batching": {}} if batching else {}
    tiny.add_slow(tmp_path / "models", instance_group=ONE, **fields)
    with TritonServer(tmp_path / "models", tmp_path / "triton", WHOLE) as server:
        client = server.client
        client.load("slow")
        client.infer("slow", slow(STEPS))
        until(lambda: counted(client) == 1, "it is counted, which is after it was answered")
        before = client.statistics("slow").inference_stats
        first = client.infer_later("slow", slow(STEPS))
        time.sleep(0.05)
        queued = [client.infer_later("slow", slow(STEPS)) for _ in range(QUEUED)]
        time.sleep(0.1)
        for one in queued:
            one.cancel()
        first.result()
        client.infer("slow", slow(1))
        until(lambda: counted(client) >= QUEUED + 3, "all are counted")
        after = client.statistics("slow").inference_stats
        one_s, both_s = before.compute_infer.ns / 1e9, (after.compute_infer.ns - before.compute_infer.ns) / 1e9
        print(f"one run {one_s:.2f} s, with {QUEUED} cancelled behind it {both_s:.2f} s; {after.fail.count} dropped")
        assert both_s < 5 * one_s  # each of them that ran would be another
        assert after.fail.count == 0 if not batching else after.fail.count >= QUEUED - 16


def counted(client):
    stats = client.statistics("slow").inference_stats
    return stats.success.count + stats.fail.count


def pixels(*shape, dtype=np.uint8):
    return {"pixels": np.zeros(shape, dtype)}


# What is asked, of which version -> what Triton says.
REFUSALS = {
    "unknown": (("nothing", ROW), StatusCode.NOT_FOUND, "Request for unknown model: 'nothing' is not found"),
    "never loaded": (("double", ROW), StatusCode.NOT_FOUND, "Request for unknown model: 'double' is not found"),
    "dropped": (("colours", ROW, 2), StatusCode.UNAVAILABLE, NOT_READY),
    "never listed": (
        ("colours", ROW, 3),
        StatusCode.NOT_FOUND,
        "Request for unknown model: 'colours' version 3 is not found",
    ),
    "shape": (
        ("colours", pixels(1, 8, 9, 3)),
        StatusCode.INVALID_ARGUMENT,
        "unexpected shape for input 'pixels' for model 'colours'. Expected [-1,8,8,3], got [1,8,9,3]",
    ),
    "rows": (
        ("colours", pixels(9, 8, 8, 3)),
        StatusCode.INVALID_ARGUMENT,
        "inference request batch-size must be <= 8 for 'colours'",
    ),
    "type": (
        ("colours", pixels(1, 8, 8, 3, dtype=np.float32)),
        StatusCode.INVALID_ARGUMENT,
        "inference input 'pixels' data-type is 'FP32', but model 'colours' expects 'UINT8'",
    ),
    "no input": (
        ("colours", {}),
        StatusCode.INVALID_ARGUMENT,
        "expected 1 inputs but got 0 inputs for model 'colours'",
    ),
    "name": (
        ("colours", {"pixel": ROW["pixels"]}),
        StatusCode.INVALID_ARGUMENT,
        "unexpected inference input 'pixel' for model 'colours'",
    ),
}


@pytest.mark.parametrize(("asked", "code", "words"), REFUSALS.values(), ids=REFUSALS)
def test_words_of_refusals(resident, asked, code, words):
    """NOT_FOUND for what this Triton never held, UNAVAILABLE for what it held, INVALID_ARGUMENT for tensors."""
    found, details = refused(resident.client.infer, *asked)
    assert found == code
    assert words in details


def test_loading_what_is_not_there(resident):
    words = "failed to load 'nothing', failed to poll from model repository"
    assert refused(resident.client.load, "nothing") == (StatusCode.INTERNAL, words)
    resident.client.unload("nothing")
    assert resident.client.index()["double/"] == ("", "")


def test_the_index_is_cheap(resident):
    seconds = []
    for _ in range(200):
        started_s = time.monotonic()
        resident.client.index()
        seconds.append(time.monotonic() - started_s)
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    print(f"index: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    assert p50 < 20
