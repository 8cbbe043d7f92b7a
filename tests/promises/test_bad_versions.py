"""Bad versions are refused, each for its own reason, and mutants harm nobody (promises V3, M1, M2, M3)."""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import time
from collections import Counter

import pytest
import spoiling
from bad_versions import BAD, Bad

from serving.errors import RepositoryInvalid
from serving.repository.digests import verify
from serving.repository.layout import scan
from serving.repository.manifest import read_manifest
from serving.versions.examiner import Examiner
from serving.versions.measurements import Job, Limits
from serving.versions.vetting_process import vet

# Less than operators get, so that the test is quick: what is refused within these is refused within those.
LIMITS = Limits(wall_s=10, run_s=2, cpu_s=8, memory_bytes=2**30)


def examined(root, *, late=None):
    """Version 2's verdict beside version 1, or None with scan's problems where it is not in the index."""
    index = scan(root)
    versions = index.models[spoiling.MODEL].versions
    assert 1 in versions, "the version that is live goes on"
    if 2 not in versions:
        return None, " ".join(str(problem) for problem in index.problems)
    if late:
        late(versions[2].folder)
    return asyncio.run(Examiner(limits=LIMITS).examine(versions[2], versions[1])), ""


def test_the_good_version_passes_every_check(tmp_path):
    spoiling.good(tmp_path)
    verdict, _ = examined(tmp_path)
    assert verdict.passed, verdict
    assert [check.passed for check in verdict.checks] == [True] * 13
    assert verdict.may_be_forced


def test_there_are_sixty_and_no_two_have_the_same_reason():
    assert len(BAD) >= 60
    assert len({(bad.check, bad.fragment) for bad in BAD}) >= len(BAD) - 2  # a cut is a cut, wherever


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_version_is_refused_for_its_own_reason(bad: Bad, tmp_path):
    bad.change(spoiling.good(tmp_path))
    started_s = time.monotonic()
    verdict, problems = examined(tmp_path, late=bad.late)
    taken_s = time.monotonic() - started_s
    if bad.check is None:
        assert verdict is None
        assert bad.fragment in problems
        return
    failed = {check.name: check.detail for check in verdict.checks if check.passed is False}
    print(f"\n{bad.name}: {failed} ({taken_s:.1f} s)")
    assert not verdict.passed
    assert bad.check in failed, failed
    assert bad.fragment in failed[bad.check], failed
    assert not any(str(tmp_path) in check.detail for check in verdict.checks), "no paths of this host"
    assert taken_s < 11
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 2 * 2**30


MUTANTS = 4000
SHARES = 2  # children at once


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Another content than before: bits flipped, bytes replaced, removed or repeated, or the end cut off."""
    changed = bytearray(content)
    while bytes(changed) == content:
        at = chance.randrange(1, len(changed))
        match chance.randrange(12):
            case 0 | 1 | 2 | 3 | 4 | 5 | 6:
                changed[at] ^= 1 << chance.randrange(8)
            case 7 | 8:
                changed[at] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
            case 9:
                del changed[at : at + chance.randrange(1, 9)]
            case 10:
                changed[at:at] = changed[max(0, at - chance.randrange(1, 9)) : at]
            case 11:
                del changed[max(at, len(changed) // 2) :]
    return bytes(changed)


def test_mutants_harm_nobody_and_none_passes(tmp_path):
    folder = spoiling.good(tmp_path)
    content = (folder / "model.onnx").read_bytes()
    listed = read_manifest(folder / "manifest.json", "manifest.json").files
    chance = random.Random(1)
    jobs = []
    for number in range(3, 3 + MUTANTS):
        mutant = folder.with_name(str(number))
        shutil.copytree(folder, mutant)
        (mutant / "model.onnx").write_bytes(mutated(content, chance))
        with pytest.raises(RepositoryInvalid, match="digest"):
            verify(mutant, listed, mutant.name)  # as it was published: each mutant stops here
        spoiling.resign(mutant)  # and as if someone had signed it
        jobs.append(Job(candidate=str(mutant), stable=None, run_s=2, cpu_s=8, memory_bytes=2**30))

    async def all_of_them():
        shares = await asyncio.gather(*(vet(jobs[i::SHARES], LIMITS) for i in range(SHARES)))
        return [report for share in shares for report in share]

    started_s = time.monotonic()
    reports = asyncio.run(all_of_them())
    taken_s = time.monotonic() - started_s
    assert len(reports) == MUTANTS
    deaths = Counter(f"{report.died_in}: {report.death}" for report in reports if report.death)
    outcomes = Counter(outcome(report) for report in reports)
    peak = max(step.peak_bytes for report in reports for step in report.steps.values())
    print(f"\n{MUTANTS} mutants in {taken_s:.0f} s, {peak / 2**20:.0f} MiB at most; deaths: {dict(deaths)}")
    print(f"refused by digest: {MUTANTS}; had they been signed: {dict(outcomes.most_common())}")
    assert peak < 2 * 2**30
    assert "silence" not in outcomes
    assert outcomes["passed, as its outputs are the same"] < MUTANTS / 2, "golden rows must tell most of them"


def outcome(report) -> str:
    """Where a mutant was refused, had its digest been right."""
    if report.death:
        return f"died in {report.died_in}"
    for name, step in report.steps.items():
        if step.problem:
            return f"refused by {name}"
    golden = report.steps.get("golden")
    if golden is None or "latency" not in report.steps:
        return "silence"
    if golden.skipped or not golden.figures["difference"] <= spoiling.PARITY.tolerance:
        return "refused by golden rows"
    return "passed, as its outputs are the same"
