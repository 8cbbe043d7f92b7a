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


def test_a_model_out_of_service_is_not_just_not_ready():
    row = dict.fromkeys(("name", "task", "versions", "stable", "canary", "shadow", "previous"), 1)
    states = [
        {"ready": True, "unloaded": False},
        {"ready": False, "unloaded": False},
        {"ready": False, "unloaded": True},
    ]
    lines = text.models_text({"models": [row | state for state in states]}).splitlines()
    assert [line.split()[-1] for line in lines] == ["READY", "yes", "no", "unloaded"]


@pytest.mark.parametrize(
    ("action", "from_", "to", "said"),
    [
        ("unload", 2, None, ["colours: unload 2 -> -. Out of service; 2 stays stable.",
                             "The way back: POST /admin/models/colours/load."]),
        ("unload", None, None, ["colours: unload changes nothing. Out of service; 2 stays stable.",
                                "The way back: POST /admin/models/colours/load."]),
        ("load", None, 2, ["colours: load - -> 2. Stable is 2.", "The way back: tidegate rollback colours (to 1)."]),
        ("load", None, None, ["colours: load changes nothing. Stable is 2.",
                              "The way back: tidegate rollback colours (to 1)."]),
    ],
)  # fmt: skip
def test_out_of_service_and_back(action, from_, to, said):
    known = {"model": "colours", "stable": 2, "previous": 1, "canary": None, "shadow": None, "cold": False}
    outcome = known | {"action": action, "from": from_, "to": to, "gateways": 1, "late": (), "seconds": 0.0}
    assert text.outcome_text(outcome).splitlines() == [said[0], "1 gateway follows after 0.00 s.", said[1]]


def test_a_history_shows_them():
    record = {"time": "T", "who": "ada", "why": "because", "percent": None, "verdict": None}
    moves = [{"action": "unload", "from": 2, "to": None}, {"action": "load", "from": None, "to": 2}]
    lines = text.history_text([record | move for move in moves]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["T", "unload", "2", "-", "ada", "-", "because"],
        ["T", "load", "-", "2", "ada", "-", "because"],
    ]
