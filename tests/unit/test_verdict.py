"""A verdict's shape, and what of it may be forced."""

from __future__ import annotations

import json

import pytest

from serving.verdict import Check, Verdict


def verdict(*failed: str) -> Verdict:
    names = ("files", "digests", "external_data", "load", "signature", "warm_up", "golden", "latency", "metric")
    checks = tuple(Check(name=name, passed=name not in failed) for name in names)
    time = "2026-01-01T00:00:00+00:00"
    return Verdict(model="m", version=2, passed=not failed, checks=checks, time=time, digest="sha256:0", stable=1)


def test_its_json_is_as_documented():
    found = json.loads(verdict("golden").model_dump_json())
    assert list(found) == ["model", "version", "passed", "checks", "time", "digest", "stable"]
    assert list(found["checks"][0]) == ["name", "passed", "measured", "limit", "detail"]
    assert Verdict.model_validate(found) == verdict("golden")


@pytest.mark.parametrize(
    ("failed", "may"),
    [
        ((), True),
        (("golden", "latency", "metric"), True),
        (("files",), False),
        (("digests",), False),
        (("external_data",), False),
        (("load",), False),
        (("signature", "metric"), False),
        (("warm_up",), False),
    ],
)
def test_quality_may_be_forced_and_soundness_never(failed, may):
    assert verdict(*failed).failed() == failed
    assert verdict(*failed).may_be_forced is may
