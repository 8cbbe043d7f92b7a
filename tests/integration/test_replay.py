"""Captured requests through a candidate: where it differs, which were slower, and how the command ends."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest
import tiny
from http_rig import gateway_process, picture, wait_until
from tool_rig import ROOT

from serving.capturing.folder import CaptureFolder, captured_of
from serving.capturing.record import Captured
from serving.errors import NotFound, ParameterInvalid, TaskMismatch
from serving.ledger import LedgerOptions, Pointers
from serving.ledgers.file import FileLedger
from serving.monitoring.side_by_side import Limits, Report
from serving.replay import Order, replay
from serving.settings import read_settings

TIDEGATE = Path(sys.executable).with_name("tidegate")
PNG = {"content-type": "image/png"}
RED, GREEN, BLUE = (90, 0, 0), (0, 200, 0), (0, 0, 200)


def capture(state: Path, colours, model: str = "colours", **changes) -> None:
    folder = CaptureFolder(state, 2**24)
    folder.open()
    for i, colour in enumerate(colours):
        fields = {
            "request_id": f"{colour[0]}-{colour[1]}-{colour[2]}", "at": 1.8e9 + i, "model": model, "version": 1,
            "task": "classify", "kind": "image", "media_type": "application/json", "parameters": {"top_k": 3},
            "payload": picture(*colour), "reply": {}, "duration_s": 0.1, **changes,
        }  # fmt: skip
        assert folder.add(Captured(**fields))


def run(tmp_path, candidate: int, against: int | None = None, most: int = 500, model="colours", **limits) -> Report:
    settings = read_settings(repository=tmp_path / "models", state=tmp_path / "state")
    return asyncio.run(replay(settings, Order(model, candidate, against, most, Limits(**limits))))


@pytest.fixture
def models(tmp_path):
    """colours/1; 2 says the same; 3 does not see a little red."""
    root = tmp_path / "models"
    tiny.add_classifier(root)
    tiny.add_classifier(root, number=2, bias=0.01)
    tiny.add_classifier(root, number=3, bias=-4.0)
    return root


def test_a_candidate_that_is_wrong_on_one_class_is_seen_by_its_requests(models, tmp_path):
    capture(tmp_path / "state", [RED, GREEN, BLUE, RED, GREEN, BLUE, GREEN, BLUE])
    same = run(tmp_path, 2)
    assert (same.requests, same.differ, same.agreement, same.unreadable) == (8, 0, 1.0, 0)
    wrong = run(tmp_path, 3, min_agreement=0.9)
    assert (wrong.before.version, wrong.candidate.version, wrong.requests) == (1, 3, 8)
    assert (wrong.differ, wrong.agreement) == (2, 0.75)
    assert [one.request_id for one in wrong.differing] == ["90-0-0"] * 2
    assert wrong.differing[0].time == "2027-01-15T08:00:00.000+00:00"
    assert wrong.differing[0].before.startswith("red 0.")
    assert not wrong.differing[0].candidate.startswith("red")
    assert len(wrong.unmet) == 1
    assert run(tmp_path, 3, min_agreement=0.7).unmet == []
    assert run(tmp_path, 2, against=3).differ == 2
    assert run(tmp_path, 3, most=2).requests == 2, "the latest alone"
    assert run(tmp_path, 3, most=2).differ == 0


def test_a_committed_model_and_its_own_copy_agree(tmp_path):
    shipped = ROOT / "model_repository" / "digits-cnn"
    shutil.copytree(shipped, tmp_path / "models" / "digits-cnn")
    shutil.copytree(shipped / "1", tmp_path / "models" / "digits-cnn" / "2")
    with np.load(shipped / "1" / "golden.npz") as golden:
        pixels = golden["input.pixels"]
    for i, row in enumerate(pixels):
        file = io.BytesIO()
        PIL.Image.fromarray(row[:, :, 0]).save(file, "PNG")
        capture(tmp_path / "state", [RED], "digits-cnn", payload=file.getvalue(), at=1.8e9 + i)
    found = run(tmp_path, 2, model="digits-cnn", min_agreement=1.0, max_slowdown=3.0)
    assert (found.requests, found.differ, found.unreadable, found.unmet) == (len(pixels), 0, 0, [])


def test_stable_is_what_the_state_says(models, tmp_path):
    capture(tmp_path / "state", [RED])

    async def move():
        ledger = FileLedger(LedgerOptions(tmp_path / "state"))
        await ledger.change(lambda document: document.model_copy(update={"models": {"colours": Pointers(stable=3)}}))
        await ledger.close()

    asyncio.run(move())
    found = run(tmp_path, 2)
    assert (found.before.version, found.differ) == (3, 1)


def test_a_slower_candidate_is_seen_to_be_slower(models, tmp_path):
    tiny.add_classifier(tmp_path / "models", "large", size=8)
    slow = tiny.add_classifier(tmp_path / "models", "large", number=2)
    _slow_down(slow)
    capture(tmp_path / "state", [GREEN, BLUE] * 4, model="large")
    found = run(tmp_path, 2, model="large", max_slowdown=1.5)
    assert found.differ == 0
    assert found.slowdown > 1.5
    assert found.slower_count >= 4
    assert found.slower[0].ratio == max(one.ratio for one in found.slower)
    assert "1.5 was asked for" in found.unmet[0]
    assert run(tmp_path, 1, against=2, model="large", max_slowdown=1.5).unmet == []


def _slow_down(folder: Path) -> None:
    """The same answers, after milliseconds of a loop."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(folder / "model.onnx")
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["at"], ["next"])],
        "body",
        [value("turn", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("at", TensorProto.FLOAT, [])],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [])],
    )
    numbers = {"turns": (TensorProto.INT64, 20_000), "yes": (TensorProto.BOOL, True), "zero": (TensorProto.FLOAT, 0.0)}
    for name, (kind, number) in numbers.items():
        model.graph.initializer.append(helper.make_tensor(name, kind, [], [number]))
    last = model.graph.node[-1]
    last.output[0] = "quick"
    model.graph.node.append(helper.make_node("Loop", ["turns", "yes", "zero"], ["nothing"], body=body))
    model.graph.node.append(helper.make_node("Add", ["quick", "nothing"], ["probabilities"]))
    onnx.save(model, folder / "model.onnx")
    (folder / "manifest.json").unlink()
    tiny.write_classifier_manifest(folder)


def test_what_cannot_be_replayed_is_counted_or_said(models, tmp_path):
    state = tmp_path / "state"
    with pytest.raises(NotFound, match="No request"):
        run(tmp_path, 2)
    capture(state, [RED])
    capture(state, [RED], task="detect")
    capture(state, [RED], parameters={"of_another_release": 1})
    (state / "captures" / "colours" / "1-a-1.capture").write_bytes(b"damaged")
    found = run(tmp_path, 2)
    assert (found.requests, found.unreadable) == (1, 3)
    capture(state, [RED], payload=b"no picture")
    found = run(tmp_path, 2)
    assert (found.requests, found.differ, found.candidate.failed, found.before.failed) == (2, 0, 1, 1)
    for candidate, model, kind in ((9, "colours", NotFound), (1, "colours", ParameterInvalid), (1, "no", NotFound)):
        with pytest.raises(kind):
            run(tmp_path, candidate, model=model)
    tiny.add_plain(models)
    tiny.add_plain(models, number=2)
    with pytest.raises(TaskMismatch):
        run(tmp_path, 2, model="double")


def typed(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [str(TIDEGATE), "replay", *map(str, arguments)]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=120)


def test_from_a_gateway_s_requests_to_a_report(models, tmp_path):
    """The whole way, as an operator goes it: the gateway may go on meanwhile."""
    where = ["--repository", models, "--state", tmp_path / "state"]
    with gateway_process(models, tmp_path / "state", TIDEGATE_CAPTURE="1") as gateway:
        for colour in (RED, GREEN, BLUE):
            httpx.post(f"{gateway.url}/v1/classify", content=picture(*colour), headers=PNG).raise_for_status()
        wait_until(lambda: len(list(captured_of(tmp_path / "state", "colours", 10))) == 3, "they are captured")
        done = typed("colours", 3, *where, "--min-agreement", 0.9)
    assert (done.returncode, done.stderr) == (1, ""), done
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "colours/3 against colours/1, on 3 captured requests: 2 answers are the same, agreement 0.6667."
    )
    assert lines[2].split() == ["AGREEMENT", "TIME", "REQUEST", "colours/1", "colours/3"]
    assert lines[3].startswith("0.000      20")
    assert " red 0." in lines[3]
    assert lines[5].split() == ["VERSION", "MEDIAN", "P99", "FAILED"]
    assert lines[-1] == "The agreement is 0.6667; at least 0.9 was asked for."
    done = typed("colours", 3, *where, "--against", 2, "--limit", 2, "--json")
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["before"]["version"] == 2
    assert json.loads(done.stdout)["requests"] == 2
    done = typed("colours", 9, *where)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: colours has no version 9. The repository holds 1, 2, 3.\n"
    assert typed("colours", 3, *where, "--against", "canary").returncode == 2
