"""The log of runs: one line of JSON for each, those that missed their floors too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FILE: Final = "run.json"  # the line of the run that made a version, in the version's folder


def as_json(run: Mapping[str, Any]) -> str:
    """The run on one line, keys in their order."""
    return json.dumps(run, ensure_ascii=False)


def append(path: Path, run: Mapping[str, Any]) -> None:
    """Adds the run as one line, in one write, so that runs side by side do not mix their lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (as_json(run) + "\n").encode()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line)
    finally:
        os.close(file)
