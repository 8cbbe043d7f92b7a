"""What `pip install tidegate` serves with: none of what its extras bring."""

from __future__ import annotations

import subprocess
import sys

import tiny

EXTRAS = ("redis", "opentelemetry.sdk", "opentelemetry.exporter", "torch", "onnx", "sklearn", "skimage", "matplotlib")
PROGRAM = f"""
import asyncio, sys
sys.modules.update(dict.fromkeys({EXTRAS}))  # None: an import of it fails
import serving.cli, serving.replay, serving.running
from serving.bootstrap import build
from serving.settings import read_settings

async def main():
    parts = build(read_settings(repository=sys.argv[1], state=sys.argv[2]))
    await parts.start()
    print(*(resident.version.name for resident in parts.router.stables()))
    await parts.close()

asyncio.run(main())
"""


def test_a_gateway_starts_without_what_the_extras_bring(tmp_path):
    tiny.add_classifier(tmp_path / "repository")
    command = [sys.executable, "-c", PROGRAM, tmp_path / "repository", tmp_path / "state"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "colours/1\n"), done.stderr
