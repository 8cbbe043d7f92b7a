"""Data that `make data` fetches: tests that need them are skipped on a laptop, and fail where all is checked (CI)."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from exporters.data import emoji, emoji_names, fashion_mnist
from exporters.data.files import debian_file, human_models_file
from exporters.errors import PackageMissing


def need_human_models() -> None:
    """To be called by whatever cannot do without the weights of nanodet and selfie."""
    _need(lambda: human_models_file("selfie.json"))


def need_clothes() -> None:
    """To be called by whatever cannot do without Fashion-MNIST."""
    _need(lambda: debian_file(fashion_mnist.PACKAGE, f"{fashion_mnist.FOLDER}/train-images-idx3-ubyte.gz"))


def need_emoji() -> None:
    """To be called by whatever cannot do without the emoji font."""
    _need(emoji.font_file)


def need_names() -> None:
    """To be called by whatever cannot do without emoji and what they are called."""
    _need(emoji.font_file)
    _need(lambda: debian_file(emoji_names.PACKAGE, emoji_names.FILES[-1]))


def _need(find: Callable[[], object]) -> None:
    try:
        find()
    except PackageMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
