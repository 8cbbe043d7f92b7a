"""The classes' names stand in the order of the classes, and no two are alike."""

import json
import re

import pytest

from exporters.data.imagenet import PACKAGE, distinguish, imagenet_labels
from exporters.provenance import package_file


def test_a_thousand_names_no_two_alike():
    labels = imagenet_labels()
    assert len(labels) == len(set(labels)) == 1000
    assert labels[744] == "missile (projectile)"
    assert labels[837] == "sunglasses (dark glasses)"


def test_the_order_is_that_of_the_class_numbers():
    synonyms = json.loads(package_file(PACKAGE, "imagenet1k_label_to_names.json").read_text())
    labels = imagenet_labels()
    known = {0: "tench", 281: "tabby cat", 657: "missile", 872: "tripod", 967: "espresso", 985: "daisy"}
    assert {number: labels[number] for number in known} == known
    words = [
        (set(re.findall(r"\w+", labels[i].lower())), set(re.findall(r"\w+", synonyms[str(i)].lower())))
        for i in range(1000)
    ]
    assert sum(bool(ours & theirs) for ours, theirs in words) > 900


def test_names_that_cannot_be_told_apart_are_an_error():
    with pytest.raises(ValueError, match="one name"):
        distinguish(["crane", "crane"], {0: "crane", 1: "crane"})
