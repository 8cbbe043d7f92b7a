"""The figures that the simulation goes by, measured on this machine in about two minutes.

CPU seconds, not wall clock: other work on the machine disturbs them less, and adding them up is allowed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import psutil
import redis as redis_py

from loadtests.bench.report import machine
from loadtests.capacity_run import Route as Asked
from loadtests.gateway_process import Fake, gateway_ports
from loadtests.payloads import TASKS, Shot, shot_at
from loadtests.redis_process import redis
from loadtests.simulation.figures import Measured, Route
from loadtests.triton_process import ROOT, triton
from serving.ledger import Document, LedgerOptions, Member, Pointers, Record
from serving.ledgers.redis import KEY, RedisLedger
from serving.repository.layout import Version, scan
from serving.task import Request

PHOTO_MODEL: Final = "efficientnet-lite0"
TEXT_MODEL: Final = "minilm-static"
CALLERS: Final = 4
SECONDS: Final = 6.0
RUN_ROWS: Final = (1, 2, 4, 8)
GATEWAYS: Final = (1, 10, 100, 300)
AGAIN: Final = 30


def measure(repository: Path, folder: Path) -> Measured:
    """All but the comparison with a real gateway. folder: for files that are forgotten."""
    photo, text = shot_at("classify", PHOTO_MODEL), shot_at("embed", TEXT_MODEL)
    version = _version(repository, PHOTO_MODEL)
    with gateway_ports(repository, fake=Fake(0.0)) as at:
        photo_s, text_s = (gateway_cpu_s(at.public, shots) for shots in (photo, text))
    decode_s = _decode_s(version, photo)
    runs, load_s = _runs(version)
    return Measured(
        machine=f"{machine()['processor']}, {len(os.sched_getaffinity(0))} cores",
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        photo=Route(sent_bytes=_mean_bytes(photo), loop_s=max(0.0, photo_s - decode_s), decode_s=decode_s),
        text=Route(sent_bytes=_mean_bytes(text), loop_s=text_s, decode_s=0.0),
        photo_on_triton_loop_s=_on_triton_s(repository, photo, decode_s),
        runs=runs,
        load_s=load_s,
        **asyncio.run(_state(folder, sorted(scan(repository).models))),
    )


def _version(repository: Path, model: str) -> Version:
    found = scan(repository).models[model]
    return found.versions[found.first_version]


def _mean_bytes(shots: Sequence[Shot]) -> int:
    return sum(len(shot.body) for shot in shots) // len(shots)


def gateway_cpu_s(url: str, shots: Sequence[Shot]) -> float:
    """CPU seconds that a request costs the gateway, which is this process' newest child."""
    process = max(psutil.Process().children(), key=lambda child: child.create_time())
    route = Asked(url, shots)
    route.closed_loop(CALLERS, 1.0)
    before = process.cpu_times()
    answered = route.closed_loop(CALLERS, SECONDS) * SECONDS
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system) / answered


def _decode_s(version: Version, shots: Sequence[Shot]) -> float:
    """CPU seconds from a picture's bytes to the tensor."""
    task: Any = TASKS["classify"](version)
    requests = [Request(shot.body, task.parameters()) for shot in shots]
    return cpu_s(lambda: [task.encode(request) for request in requests]) / len(requests)


def cpu_s(work: Callable[[], Any]) -> float:
    work()
    begun_s = time.process_time()
    for _ in range(AGAIN):
        work()
    return (time.process_time() - begun_s) / AGAIN


def _runs(version: Version) -> tuple[Mapping[int, float], float]:
    """Seconds of runs on one core, and of loading with a first run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    path = str(version.folder / "model.onnx")
    begun_s = time.perf_counter()
    session = ort.InferenceSession(path, options)
    given = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in given.shape[1:]]
    session.run(None, {given.name: np.zeros((1, *shape), np.uint8)})
    load_s = time.perf_counter() - begun_s
    rows = {count: np.zeros((count, *shape), np.uint8) for count in RUN_ROWS}
    return {count: cpu_s(lambda count=count: session.run(None, {given.name: rows[count]})) for count in rows}, load_s  # type: ignore[misc]


def _on_triton_s(repository: Path, shots: Sequence[Shot], decode_s: float) -> float | None:
    """What a photo costs a gateway's event loop with Triton behind it; None where no Triton is installed."""
    if not (ROOT / ".triton/installed").exists():
        return None
    with triton(repository, []) as server:
        options = {"TIDEGATE_ENGINE": "triton", "TIDEGATE_TRITON_URL": server.grpc}
        with gateway_ports(repository, environment=options) as at:
            return max(0.0, gateway_cpu_s(at.public, shots) - decode_s)


async def _state(folder: Path, models: Sequence[str]) -> dict[str, Any]:
    """What gateways ask of a real Redis, by the ledger's own code."""
    with redis() as url:
        ledger = RedisLedger(LedgerOptions(folder, url))
        plain = redis_py.Redis.from_url(url)
        await ledger.change(lambda _: _document(models))
        members = [_member(i, models) for i in range(max(GATEWAYS))]
        found: dict[str, Any] = {"members": {}, "member_bytes": len(members[0].model_dump_json())}
        with _redis_cpu(plain, len(members)) as spent:
            for member in members:
                await ledger.announce(member)
        found["announce_s"] = spent[0]
        with _redis_cpu(plain, 2000) as spent:
            for _ in range(2000):
                plain.getrange(KEY, 0, 95)
        found["look_s"] = spent[0]
        with _redis_cpu(plain, 500) as spent:
            for _ in range(500):
                plain.get(KEY)
        found["read_s"] = spent[0]
        for count in GATEWAYS:
            found["members"][count] = await _census(ledger, plain, members[:count])
        await ledger.close()
        plain.close()
    return found


async def _census(ledger: RedisLedger, plain: redis_py.Redis, members: Sequence[Member]) -> tuple[float, float]:
    """CPU seconds of Redis and of the gateway to learn what so many say."""
    plain.flushall()
    for member in members:
        await ledger.announce(member)
    begun_s = time.process_time()
    with _redis_cpu(plain, AGAIN) as spent:
        for _ in range(AGAIN):
            found = await ledger.members()
            if len(found) != len(members):
                raise RuntimeError(f"{len(members) - len(found)} gateways have expired: this machine is too busy.")
    return spent[0], (time.process_time() - begun_s) / AGAIN


@contextmanager
def _redis_cpu(plain: redis_py.Redis, times: int) -> Iterator[list[float]]:
    """CPU seconds of Redis' main thread in the block, divided by `times`."""

    def spent_s() -> float:
        info: Any = plain.info("cpu")
        return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])

    before_s, result = spent_s(), [0.0]
    yield result
    result[0] = (spent_s() - before_s) / times


def _member(number: int, models: Sequence[str]) -> Member:
    return Member(id=f"gateway-{number:08x}", epoch=1, revision=20, ready=dict.fromkeys(models, (1, 2)))


def _document(models: Sequence[str]) -> Document:
    """As it is after some changes of each model."""
    record = Record(
        time=datetime.now(UTC).isoformat(), action="promote", to=2, who="somebody", why="a reason of a line"
    )
    return Document(models={name: Pointers(stable=2, stack=(1,), history=(record,) * 5) for name in models})
