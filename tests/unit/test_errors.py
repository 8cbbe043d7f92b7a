"""Failures as facts: what they say to callers and to operators."""

from __future__ import annotations

import pytest

from serving.errors import ImageInvalid, ImageTooLarge, InvalidInput, QueueFull, RepositoryInvalid, TidegateError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (QueueFull("9 rows wait."), "9 rows wait."),
        (QueueFull("9 rows wait.", remedy="Try again later."), "9 rows wait. Try again later."),
        (RepositoryInvalid("m/config.pbtxt", "name", "expected 'm'"), "m/config.pbtxt: name: expected 'm'"),
        (RepositoryInvalid("m/config.pbtxt", "", "expected this file"), "m/config.pbtxt: expected this file"),
        (RepositoryInvalid("m", "", "expected a folder", remedy="Make one."), "m: expected a folder. Make one."),
    ],
    ids=["a detail", "with a remedy", "a file and a field", "a file", "a file with a remedy"],
)
def test_an_error_reads_as_a_sentence(error, text):
    assert str(error) == text


def test_an_error_carries_its_parts():
    error = RepositoryInvalid("m/config.pbtxt", "name", "expected 'm'", remedy="Rename it.")
    assert (error.file, error.field, error.expected) == ("m/config.pbtxt", "name", "expected 'm'")
    assert (error.detail, error.remedy) == ("m/config.pbtxt: name: expected 'm'", "Rename it.")


def test_whoever_catches_the_wide_error_catches_the_narrow_one():
    with pytest.raises(InvalidInput) as caught:
        raise ImageTooLarge("9 megapixels.")
    assert isinstance(caught.value, ImageInvalid)
    assert isinstance(caught.value, TidegateError)
    assert caught.value.code == "image_too_large"
