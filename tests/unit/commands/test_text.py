"""What the commands print for people."""

from __future__ import annotations

import pytest

from serving.commands import text


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        ([1, 2, 10], "1,2,10"),
        ([], ""),
        ({"version": 4, "percent": 5}, "4 (5 %)"),
        ({"version": 4, "percent": 0.5}, "4 (0.5 %)"),
        ({"version": 4, "agreement": None}, "4 (no copies yet)"),
        ({"version": 4, "agreement": 0.985}, "4 (98.5% agree)"),
        (7, "7"),
        (0, "0"),
        ("classify", "classify"),
    ],
)
def test_a_cell_reads_as_people_write_it(value, read):
    assert text._cell(value) == read


def test_columns_are_as_wide_as_their_widest_cell():
    row = dict.fromkeys(("task", "versions", "stable", "canary", "shadow", "previous"), 1) | {"ready": True}
    lines = text.models_text({"models": [{"name": "a", **row}, {"name": "a-long-name", **row}]}).splitlines()
    assert [line.index(" 1 ") for line in lines[1:]] == [len("a-long-name") + 1] * 2
    assert lines[0].index("TASK") == len("a-long-name") + 2
    assert all(line == line.rstrip() for line in lines)
