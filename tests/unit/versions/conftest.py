"""A repository with three versions of one model, and a place for state."""

from __future__ import annotations

import pytest
from versions_rig import publish


@pytest.fixture
def root(tmp_path):
    publish(tmp_path / "models", (1, 2, 3))
    return tmp_path / "models"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"
