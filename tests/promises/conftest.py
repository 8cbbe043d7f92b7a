"""What holds for each test that measures."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def no_garbage_of_others():
    """What the tests before have left is not gone through while this one measures: that stops it for some tenths of a
    second, after which it asks all at once.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
