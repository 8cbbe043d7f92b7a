"""docs/tour.md, block after block, as a reader would paste it: in a folder and on ports of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from data_rig import need_names
from redis_rig import free_port

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "TOUR_PYTHON"
LONGEST_S = 600


def script(text: str) -> str:
    """One script of all blocks."""
    parts = ["set -euo pipefail"]
    for language, block in BLOCK.findall(text):
        parts.append(block if language == "bash" else f"python - <<'{END}'\n{block}{END}\n")
    return "\n".join(parts)


@pytest.fixture
def folder(tmp_path):
    """As a checkout, as far as the tour looks at it."""
    (tmp_path / "model_repository").symlink_to(ROOT / "model_repository")
    return tmp_path


def test_the_tour_is_as_it_says(folder):
    need_names()
    text = (ROOT / "docs" / "tour.md").read_text()
    public, admin = free_port(), free_port()
    commands = script(text).replace("--port 8080", f"--port {public} --grpc-port 0").replace("8080", str(public))
    commands = commands.replace("8081", str(admin))
    commands = re.sub(r"tidegate (promote|rollback) ", rf"tidegate \1 --url http://127.0.0.1:{admin} ", commands)
    bash = shutil.which("bash")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    with (folder / "said").open("w") as file:  # no pipe: what it starts would hold that open
        tour = subprocess.Popen(
            [bash, "-c", commands],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        tour.wait(LONGEST_S)
    finally:
        with suppress(ProcessLookupError):  # whatever it left
            os.killpg(tour.pid, signal.SIGKILL)
        said = (folder / "said").read_text()
    print(said)
    assert tour.returncode == 0, said
    assert " 0 failed; " in said
    assert not (folder / "tour").exists()
