"""What every test may count on: no setting comes in from outside."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("TIDEGATE_")]:  # as settings read them
        monkeypatch.delenv(name)
