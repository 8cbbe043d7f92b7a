"""Conditions on an item's metadata, as callers write them in JSON.

{"colour": "red"}                                equal; a list in the metadata: one of it is equal
{"price": {"$gte": 3, "$lt": 5}}                 $eq $ne $gt $gte $lt $lte $in $nin $exists
{"$or": [{"colour": "red"}, {"size": 4}]}        $and $or $not
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Filter:
    """A condition that was read and found sound."""

    def __init__(self, condition: Mapping[str, Any]) -> None:
        self.condition = condition

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Whether an item of this metadata meets the condition; what it does not have equals nothing."""
        raise NotImplementedError
