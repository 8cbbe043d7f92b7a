"""Fashion-MNIST and kinds of emoji: whole, and without a picture on two sides."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from data_rig import need_clothes, need_emoji

from exporters.data import emoji_kinds, fashion_mnist
from exporters.data.fashion_mnist import CLASSES, load_fashion_mnist, split
from exporters.errors import PackageMissing

GREY = {"resize": None, "size": 28, "resample": "bilinear", "channels": 1}


def write_set(folder, held_out, targets):
    place = folder / "debian" / fashion_mnist.FOLDER
    place.mkdir(parents=True)
    for stem, pictures in (("train", 255 - held_out), ("t10k", held_out)):
        images = struct.pack(">BBBBIII", 0, 0, 8, 3, *pictures.shape) + pictures.tobytes()
        labels = struct.pack(">BBBBI", 0, 0, 8, 1, len(targets)) + targets.tobytes()
        (place / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (place / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def test_no_picture_is_on_two_sides_even_when_the_set_has_it_twice():
    generator = np.random.default_rng(0)
    train = generator.integers(0, 256, (9_000, 4, 4), dtype=np.uint8)
    train[100:200] = train[0:100]
    test = generator.integers(0, 256, (500, 4, 4), dtype=np.uint8)
    test[:50] = train[300:350]
    parts = split(train, test)
    contents = {part: {train[row].tobytes() for row in rows} for part, rows in parts.items()}
    held_out = {picture.tobytes() for picture in test}
    assert not contents["train"] & contents["validation"]
    assert not (contents["train"] | contents["validation"]) & held_out
    assert len(parts["train"]) + len(parts["validation"]) > 9_000 - 50 - 101


def test_pictures_reach_the_model_as_they_are_in_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    generator = np.random.default_rng(1)
    pictures = generator.integers(0, 256, (5_600, 28, 28), dtype=np.uint8)
    targets = generator.integers(0, 10, 5_600, dtype=np.uint8)
    write_set(tmp_path, pictures, targets)
    data = load_fashion_mnist(GREY, quick=True)
    np.testing.assert_array_equal(data.test.inputs["pixels"][..., 0], pictures[:1_000])
    np.testing.assert_array_equal(data.test.targets, targets[:1_000])


def test_data_that_are_missing_are_got_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "FOLDER", "nowhere/at/all")
    with pytest.raises(PackageMissing, match="dataset-fashion-mnist") as caught:
        load_fashion_mnist(GREY, quick=True)
    assert caught.value.remedy == "Run: make data"


def test_the_set_is_whole():
    need_clothes()
    data = load_fashion_mnist(GREY, quick=True)
    assert data.card.digest == "sha256:050f7be9e1fdbb830bcf90ae3e83424b0016c046a7122ee06248af6d72d5ccda"
    assert set(data.test.targets.tolist()) == set(range(len(CLASSES)))


def test_drawings_of_the_test_are_not_learned_from():
    need_emoji()
    for kind, blocks in emoji_kinds.KINDS.items():
        characters = emoji_kinds.drawings(blocks)
        parts = emoji_kinds.split(characters, emoji_kinds.MOST)
        assert sum(len(part) for part in parts.values()) == len(set().union(*parts.values())), kind
        assert len(parts["test"]) >= 6


def test_kinds_come_as_the_model_sees_them():
    need_emoji()
    settings = {"resize": 128, "size": 128, "resample": "bicubic", "channels": 3}
    data = emoji_kinds.load_emoji_kinds(settings, quick=True)
    assert data.train.inputs["pixels"].shape[1:] == (128, 128, 3)
    assert set(data.train.targets.tolist()) == set(data.test.targets.tolist()) == set(range(7))
    again = emoji_kinds.load_emoji_kinds(settings, quick=True)
    assert data.card.digest == again.card.digest
