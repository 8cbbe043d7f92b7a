"""Data that `make data` fetches: tests that need them are skipped on a laptop, and fail where all is checked (CI)."""

from __future__ import annotations

import os

import pytest

from exporters.data.files import human_models_file
from exporters.errors import PackageMissing


def need_human_models() -> None:
    """To be called by whatever cannot do without the weights of nanodet and selfie."""
    try:
        human_models_file("selfie.json")
    except PackageMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
