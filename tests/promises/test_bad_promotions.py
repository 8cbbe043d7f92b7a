"""Every bad version is ordered to go live under traffic: each is refused with its reason, and nobody notices."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import spoiling
import uvloop
from bad_versions import BAD
from http_rig import gateway_process, picture, request_bytes
from open_loop import Reply, open_loop
from triton_gateways import beside_triton

RATE = 50.0
LONGEST_S = 240.0


@pytest.mark.parametrize("engine", ["onnx", "triton"])
def test_bad_versions_are_refused_and_traffic_is_untouched(tmp_path, engine):
    repository = tmp_path / "repository"
    spoiling.good(repository)
    with (
        beside_triton(repository, engine) as environment,
        gateway_process(repository, tmp_path / "state", **environment) as gateway,
    ):
        promotions = Promotions(repository, f"{gateway.admin_url}/admin/models/{spoiling.MODEL}")
        promotions.start()
        address = urlsplit(gateway.url)
        request = request_bytes("/v1/classify", picture(120, 60, 30))
        rounds = []
        while promotions.is_alive() and len(rounds) * 10 < LONGEST_S:
            load = open_loop(address.hostname, address.port, request, rate=RATE, seconds=10, judge=by_version_1)
            rounds.append(uvloop.run(load))
        promotions.join(1)
        history = httpx.get(f"{gateway.admin_url}/admin/models/{spoiling.MODEL}/history").json()
        verdicts = httpx.get(f"{gateway.admin_url}/admin/models/{spoiling.MODEL}/verdicts").json()
    answered = sum(outcome.count(200) for outcome in rounds)
    checks = dict(Counter(promotions.refused.values()))
    print(
        f"\n{len(promotions.refused)} bad versions refused, by check {checks}; {answered:,} requests answered meanwhile"
    )
    assert promotions.wrong == []
    assert len(promotions.refused) == len([bad for bad in BAD if bad.late is spoiling.nothing]) >= 60
    assert [outcome.wrong for outcome in rounds] == [[]] * len(rounds)
    assert history == [], "no pointer has moved"
    assert len(verdicts) == 50, "the newest are kept"


class Promotions(threading.Thread):
    """Puts each bad version in the place of version 2, and orders its promotion."""

    def __init__(self, repository: Path, url: str) -> None:
        super().__init__()
        self._repository = repository
        self._url = url
        self.refused: dict[str, str] = {}
        self.wrong: list[str] = []

    def run(self) -> None:
        for bad in BAD:
            if bad.late is not spoiling.nothing:
                continue  # spoilt between two looks of the gate, which no order from outside can time
            for left in (self._repository / spoiling.MODEL / "2", self._repository / ".elsewhere"):
                remove(left)
            bad.change(spoiling.good(self._repository))
            started_s = time.monotonic()
            answer = httpx.post(f"{self._url}/promote", json={"version": 2, "force": False}, timeout=60)
            problem = answer.json()
            failed = {check["name"]: check["detail"] for check in problem.get("verdict", {}).get("checks", ())
                      if check["passed"] is False}  # fmt: skip
            check = bad.check or "files"
            if answer.status_code == 409 and problem["code"] == "gate_failed" and bad.fragment in failed.get(check, ""):
                self.refused[bad.name] = check
            else:
                self.wrong.append(f"{bad.name}: {answer.status_code} {answer.text[:300]}")
            assert time.monotonic() - started_s < 60


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def by_version_1(reply: Reply) -> str | None:
    if reply.status != 200:
        return f"{reply.status}: {reply.body[:200]!r}"
    return None if json.loads(reply.body)["version"] == 1 else "another version answered"
