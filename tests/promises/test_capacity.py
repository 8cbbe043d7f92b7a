"""The capacity that the search finds is what a server can do: beside callers who wait, on the same machine."""

from __future__ import annotations

import json
import subprocess
import sys


def test_the_capacity_of_the_photo_route_is_within_a_tenth_of_what_callers_who_wait_get(request, tmp_path):
    command = [sys.executable, "-m", "loadtests", "capacity", "--out", tmp_path, "--within", "0.1"]
    for _ in range(3):  # what else goes on at this machine meets one of both, now and then
        done = subprocess.run(
            command, cwd=request.config.rootpath, capture_output=True, text=True, timeout=1200, check=False
        )
        print(f"\n{done.stdout}")
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    assert abs(json.loads((tmp_path / "capacity.json").read_text())["ratio"] - 1) <= 0.1
