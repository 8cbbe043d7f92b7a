"""The child that vets versions, for real: it may die, swell or hang, and it never outlives its parent."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import spoiling
import tiny

from serving.repository.layout import scan
from serving.versions.examiner import Examiner
from serving.versions.measurements import STEPS, Job, Limits
from serving.versions.vetting_process import MODULE, vet

LIMITS = Limits(wall_s=20, run_s=10, cpu_s=20, memory_bytes=2**30)


def job(folder: Path, stable: Path | None = None, **changes) -> Job:
    known = {"run_s": LIMITS.run_s, "cpu_s": LIMITS.cpu_s, "memory_bytes": LIMITS.memory_bytes}
    return Job(candidate=str(folder), stable=str(stable) if stable else None, **(known | changes))


def vetted(folder: Path, limits: Limits = LIMITS, **changes):
    (report,) = asyncio.run(vet([job(folder, **changes)], limits))
    return report


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if is_vetting(child)]


def is_vetting(process: psutil.Process) -> bool:
    try:
        return MODULE in process.cmdline()
    except psutil.Error:
        return False


async def running_child() -> psutil.Process:
    """The child once it has had a second in its endless model."""
    for _ in range(100):
        if found := children():
            await asyncio.sleep(1.5)
            return found[0]
        await asyncio.sleep(0.05)
    raise AssertionError("no child was started")


@pytest.fixture
def good(tmp_path) -> Path:
    return spoiling.good(tmp_path)


@pytest.fixture
def endless(good) -> Path:
    spoiling.endless_loop()(good)
    return good


def test_a_sound_version_tells_all_its_steps(good):
    report = vetted(good, stable=good.with_name("1"))
    assert report.death is None
    assert tuple(report.steps) == STEPS
    assert not any(step.problem or step.skipped for step in report.steps.values())
    assert report.steps["golden"].figures["difference"] < 1e-5
    assert report.steps["batch"].figures["rows"] == 8
    assert not children()


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_is_told_with_its_step_and_signal(endless, name):
    async def crash():
        vetting = asyncio.create_task(vet([job(endless), job(endless.with_name("1"))], LIMITS))
        (await running_child()).send_signal(getattr(signal, name))
        return await vetting

    dead, next_one = asyncio.run(crash())
    assert dead.died_in == "warm_up"
    assert name in dead.death
    assert next_one.death is None, "the next one has a child of its own"


def test_memory_is_bounded(good):
    spoiling.huge_constant(2**30)(good)
    report = vetted(good)
    assert "more memory" in next(step.problem for step in report.steps.values() if step.problem)
    assert max(step.peak_bytes for step in report.steps.values()) < 2**30


def test_a_run_without_end_is_stopped(endless):
    report = vetted(endless, run_s=0.5)
    assert report.death is None
    assert "took more than 0.5 s" in report.steps["warm_up"].problem


def test_a_child_without_end_is_killed(endless):
    started_s = time.monotonic()
    report = vetted(endless, Limits(wall_s=3))
    assert time.monotonic() - started_s < 6, "killed, not waited for"
    assert report.died_in == "warm_up"
    assert "more than 3 s" in report.death
    assert not children()


def test_processor_time_is_bounded(endless):
    report = vetted(endless, cpu_s=2)
    assert report.died_in == "warm_up"
    assert "SIGXCPU" in report.death


def test_a_vetting_that_is_cancelled_leaves_no_child(endless):
    async def cancel():
        vetting = asyncio.create_task(vet([job(endless)], LIMITS))
        await running_child()
        vetting.cancel()
        started_s = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await vetting
        assert time.monotonic() - started_s < 3, "killed, not waited for"
        assert not children()

    asyncio.run(cancel())


def test_a_parent_that_is_killed_leaves_no_child(endless):
    program = (
        "import asyncio, sys\n"
        "from serving.versions.measurements import Job, Limits\n"
        "from serving.versions.vetting_process import vet\n"
        "job = Job(candidate=sys.argv[1], stable=None, run_s=60, cpu_s=60, memory_bytes=2**30)\n"
        "asyncio.run(vet([job], Limits()))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(endless)]) as parent:
        found: list[psutil.Process] = []
        ends_s = time.monotonic() + 20
        while not found and time.monotonic() < ends_s:
            time.sleep(0.1)
            found = [child for child in psutil.Process(parent.pid).children() if is_vetting(child)]
        time.sleep(1.0)
        assert found[0].is_running()
        parent.kill()
        gone, alive = psutil.wait_procs(found, timeout=2)
    assert gone
    assert not alive


def test_a_child_gives_way_and_knows_no_secrets(endless, monkeypatch):
    monkeypatch.setenv("TIDEGATE_KEYS", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    async def look():
        vetting = asyncio.create_task(vet([job(endless)], Limits(wall_s=4)))
        child = await running_child()
        assert child.nice() == 19
        assert os.getpgid(child.pid) == child.pid
        assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert "secret" not in child.environ().values()
        await vetting

    asyncio.run(look())


def test_a_child_whose_parent_is_another_does_nothing():
    command = [sys.executable, "-m", MODULE, "1"]
    done = subprocess.run(command, check=False, input="", capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "the parent is gone" in done.stderr


def test_verdicts_are_given_again_while_files_are_the_same(tmp_path):
    folder = spoiling.good(tmp_path)
    versions = scan(tmp_path).models[spoiling.MODEL].versions
    now_s = [1000.0]

    async def examine():
        examiner = Examiner(limits=LIMITS, clock=lambda: now_s[0])
        first = await examiner.examine(versions[2], versions[1])
        now_s[0] += 40
        again = await examiner.examine(versions[2], versions[1])
        now_s[0] += 3600
        later = await examiner.examine(versions[2], versions[1])
        (folder / "labels.txt").write_text("x\n")
        return first, again, later, await examiner.examine(versions[2], versions[1])

    first, again, later, spoilt = asyncio.run(examine())
    assert first.passed, first
    assert again.passed, again
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", first.digest)
    details = [next(check.detail for check in one.checks if check.name == "load") for one in (first, again, later)]
    assert ["vetted 40 s ago" in detail for detail in details] == [False, True, False]
    assert spoilt.failed() == ("digests",), "files are looked at each time"


def test_the_version_that_is_live_is_not_compared_with_itself(tmp_path):
    tiny.add_plain(tmp_path)
    version = scan(tmp_path).models["double"].versions[1]
    verdict = asyncio.run(Examiner(limits=LIMITS).examine(version, version))
    assert verdict.passed, verdict
    assert verdict.stable is None
    passed = {check.name: check.passed for check in verdict.checks}
    assert passed["digests"] is None
    assert passed["warm_up"] is True
    assert passed["latency"] is None


def test_a_plain_model_keeps_its_tensors(tmp_path):
    tiny.add_plain(tmp_path, number=1)
    folder = tiny.add_plain(tmp_path, number=2)
    config = folder.parent / "config.pbtxt"
    config.write_text('name: "double" platform: "onnxruntime_onnx" max_batch_size: 8')
    spoiling.replace_in(folder / "model.onnx", b"\x0a\x01x", b"\x0a\x01z")
    versions = scan(tmp_path).models["double"].versions
    verdict = asyncio.run(Examiner(limits=LIMITS).examine(versions[2], versions[1]))
    assert verdict.failed() == ("signature",)
    assert "no z, which version 1 does not send" in str(verdict)


def test_a_version_that_is_gone_is_refused(tmp_path):
    spoiling.good(tmp_path)
    versions = scan(tmp_path).models[spoiling.MODEL].versions
    versions[2].folder.rename(tmp_path / "gone")
    verdict = asyncio.run(Examiner(limits=LIMITS).examine(versions[2], versions[1]))
    assert verdict.failed() == ("files",)
    assert not verdict.may_be_forced
