"""kill -9 at each step: what is on disk reads as before or as after, never between."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path

import httpx
import pytest
import tiny
from http_rig import gateway_process, picture, wait_until
from killed import run_until_killed
from publishing import release

from exporters.publish import Release, publish
from serving.repository.digests import verify_version
from serving.repository.layout import Index, scan

PUBLISH = """
from pathlib import Path
import sys
sys.path[:0] = {tests!r}
from publishing import release
from exporters.publish import publish
made = release(Path({source!r}))
arm()
publish(made, Path({repository!r}))
"""
CHANGE = """
import asyncio
from pathlib import Path
from serving.ledger import LedgerOptions, Pointers
from serving.ledgers.file import FileLedger
ledger = FileLedger(LedgerOptions(Path({state!r})))
arm()
asyncio.run(ledger.change(lambda d: d.model_copy(update={{"models": {{"a": Pointers(stable=2, stack=(1,))}}}})))
"""


def sound_versions(index: Index) -> dict[str, list[int]]:
    """The versions of each model, every file of theirs compared with its digest."""
    for model in index.models.values():
        for version in model.versions.values():
            verify_version(version)
    return {name: list(model.versions) for name, model in index.models.items()}


@pytest.mark.parametrize("first", [True, False], ids=["a new model", "a further version"])
@pytest.mark.parametrize("graphs", [1, 2])
def test_a_killed_publisher_leaves_the_repository_as_before_or_after(tmp_path, first, graphs):
    add = tiny.add_classifier if graphs == 1 else two_graphs
    source = add(tmp_path / "source", bias=1.0)
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    before, after = ({}, {"colours": [1]}) if first else ({"colours": [1]}, {"colours": [1, 2]})
    seen = []
    for step in range(200):
        repository = tmp_path / f"repository-{step}"
        repository.mkdir()
        if not first:
            add(repository)
        code = PUBLISH.format(tests=places, source=str(source), repository=str(repository))
        killed = run_until_killed(code, step, str(repository))
        index = scan(repository)
        assert index.problems == ()
        seen.append(sound_versions(index))
        assert seen[-1] in (before, after)
        check_that_it_can_be_published_again(release(source), repository, seen[-1])
        if not killed:
            break
    print(f"\n{len(seen)} points of {'a new model' if first else 'a version'}: {seen.count(before)} times as before")
    assert seen[-1] == after
    assert len(seen) > 12
    assert seen == sorted(seen, key=lambda one: one == after), "once it is there, it stays"


def two_graphs(root: Path, bias: float = 0.0) -> Path:
    folder = tiny.add_classifier(root, bias=bias)
    tiny.add_plain(root, "colours.double")
    tiny.write_graphs_manifest(folder, {"model": "colours", "double": "colours.double"})
    return folder


def check_that_it_can_be_published_again(made: Release, repository: Path, before: dict[str, list[int]]) -> None:
    """And that then, a day later, nothing is left of the one that was killed."""
    for staging in repository.glob(".staging-*"):
        os.utime(staging, (0, 0))
    folder = publish(made, repository)
    versions = [*before.get("colours", []), int(folder.name)]
    assert sound_versions(scan(repository)) == {"colours": versions}
    names = {"colours", *made.manifest.graph_files}
    assert {path.name for path in repository.iterdir()} == names
    for name in names:
        found = sorted(int(path.name) for path in (repository / name).iterdir() if path.is_dir())
        assert found == versions, "no orphan is left"


def test_a_killed_change_leaves_the_ledger_as_before_or_after(tmp_path):
    seen = []
    for step in range(50):
        state = tmp_path / f"state-{step}"
        state.mkdir()
        before = {"schema": 1, "revision": 3, "models": {"a": {"stable": 1}}}
        (state / "live.json").write_text(json.dumps(before))
        killed = run_until_killed(CHANGE.format(state=str(state)), step, str(state))
        document = json.loads((state / "live.json").read_text())
        seen.append((document["revision"], document["models"]["a"]["stable"]))
        assert seen[-1] in {(3, 1), (4, 2)}
        if not killed:
            break
    print(f"\n{len(seen)} points of a change: {seen.count((3, 1))} times as before")
    assert seen[-1] == (4, 2)
    assert len(seen) > 4


TRIES = 12
HEADERS = {"content-type": "image/png"}


def test_a_gateway_killed_in_mid_switch_comes_back_as_before_or_after(tmp_path):
    """And its attempt, which nobody leads any more, blocks nobody for long."""
    repository, state = tmp_path / "repository", tmp_path / "state"
    for number in (1, 2):
        tiny.add_classifier(repository, number=number, bias=float(number), ballast=2**20)
    pauses = random.Random(0)
    found = []
    with gateway_process(repository, state) as gateway:
        httpx.post(f"{gateway.admin_url}/admin/models/colours/check", json={"version": 2}, timeout=60)
    for _ in range(TRIES):
        with gateway_process(repository, state) as gateway:
            orders = threading.Thread(target=switch_until_gone, args=(gateway.admin_url,))
            orders.start()
            time.sleep(pauses.uniform(0.5, 1.5))
            gateway.popen.kill()
            orders.join(30)
        live = json.loads((state / "live.json").read_text())["models"]["colours"]
        found.append((live["stable"], "wanted" in live))
        assert (live["stable"], live["stack"]) in ((1, []), (2, [1]))
    with gateway_process(repository, state) as gateway:
        answer = httpx.post(f"{gateway.url}/v1/classify", content=picture(), headers=HEADERS)
        assert answer.json()["version"] == found[-1][0]
        wait_until(lambda: "wanted" not in json.loads((state / "live.json").read_text())["models"]["colours"], "swept")
        verb = "rollback" if found[-1][0] == 2 else "promote"
        body = {} if verb == "rollback" else {"version": 2}
        assert httpx.post(f"{gateway.admin_url}/admin/models/colours/{verb}", json=body, timeout=60).status_code == 200
    print(f"\nkilled {TRIES} times: {sum(wanted for _, wanted in found)} times between the two phases, never half live")


def switch_until_gone(admin_url: str) -> None:
    with httpx.Client(base_url=f"{admin_url}/admin/models/colours", timeout=30) as client:
        for verb, body in [("promote", {"version": 2}), ("rollback", {})] * 1000:
            try:
                client.post(f"/{verb}", json=body)
            except httpx.HTTPError:
                return
