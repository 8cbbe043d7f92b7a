"""The digits: dealt out without a leak, alike in training and in serving."""

import numpy as np
import pytest

from exporters.data.digits import load_digits, split
from exporters.families.cnn import DigitsCnn
from serving.picture_task import PIXELS


@pytest.fixture(scope="module")
def digits():
    return load_digits(DigitsCnn.preprocessing)


def test_no_picture_is_in_two_parts(digits):
    parts = [{row.tobytes() for row in part.inputs[PIXELS]} for part in (digits.train, digits.validation, digits.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_all_rows_are_dealt_out_and_each_class_evenly(digits):
    assert len(digits.train) + len(digits.validation) + len(digits.test) == 1797
    shares = np.bincount(digits.test.targets) / np.bincount(
        np.concatenate([digits.train.targets, digits.validation.targets, digits.test.targets])
    )
    np.testing.assert_allclose(shares, 0.2, atol=0.005)


def test_equal_pictures_stay_together():
    pictures = np.repeat(np.arange(50, dtype=np.uint8), 2).reshape(100, 1, 1)
    parts = split(pictures, np.zeros(100, np.int64))
    values = [set(pictures[rows].ravel().tolist()) for rows in parts.values()]
    assert sum(len(value) for value in values) == 50
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(100))


def test_the_split_is_the_same_each_time(digits):
    again = load_digits(DigitsCnn.preprocessing)
    assert again.card == digits.card
    np.testing.assert_array_equal(again.test.inputs[PIXELS], digits.test.inputs[PIXELS])


def test_rows_are_white_on_black_bytes(digits):
    pixels = digits.train.inputs[PIXELS]
    assert pixels.shape[1:] == (32, 32, 1)
    assert pixels.dtype == np.uint8
    assert pixels.mean() < 100
    assert pixels.max() == 255
