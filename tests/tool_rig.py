"""Programs that tests of deploy/ run, from the development packages or the system. Missing ones fail in CI only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REMEDIES = {"prometheus": "apt-get install prometheus", "promtool": "apt-get install prometheus"}


def tool(name: str) -> str:
    """Where the program is; the test is skipped without it, but never under CI."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name) if name in REMEDIES else None
    if found is None:
        remedy = f"no {name} here: {REMEDIES.get(name, 'make .venv/.dev')}"
        if os.environ.get("CI"):
            pytest.fail(remedy)
        pytest.skip(remedy)
    return found


def run(name: str, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """What it prints; the test fails with what it says when its exit code is not 0."""
    command = [tool(name), *map(str, arguments)]
    given = None if environment is None else {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"
    return done.stdout
