"""Forward through the gate and back, as operators type it: with a gateway, and with none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from http_rig import gateway_process

TIDEGATE = Path(sys.executable).with_name("tidegate")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"


class Operator:
    """Types commands at one gateway, or at a repository and a state with none."""

    def __init__(self, *where: object) -> None:
        self._where = [str(word) for word in where]

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(TIDEGATE), *map(str, arguments), *self._where]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=90, env=os.environ)

    def text(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def json(self, *arguments: object):
        return json.loads(self.text(*arguments, "--json"))

    def refused(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Exit code 1 with a reason, and no traceback."""
        done = self.run(*arguments)
        assert done.returncode == 1, done
        assert done.stderr.startswith("Error: ") or not done.stderr, done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        return done


@pytest.fixture
def repository(tmp_path):
    """colours: 1 and 2 are sound, 3 was changed after it was published."""
    for number in (1, 2, 3):
        tiny.add_classifier(tmp_path / "models", number=number, bias=0.1 * number)
    (tmp_path / "models" / "colours" / "3" / "labels.txt").write_text("a\nb\nc\n")
    return tmp_path / "models"


def cells(text: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


def test_at_a_gateway(repository, tmp_path):
    with gateway_process(repository, tmp_path / "state") as gateway:
        operator = Operator("--url", gateway.admin_url)
        assert operator.text("history", "colours") == "No change was made yet.\n"

        checked = operator.text("check", "colours", 2)
        assert cells(checked)[0][0] == "CHECK"
        assert "FAILED" not in checked
        assert checked.endswith("colours/2 passed the gate, compared with 1.\n")

        trial = operator.text("promote", "colours", 2, "--canary", 10, "--why", "try it").splitlines()
        assert trial[:2] == [
            "colours: canary 1 -> 2. Stable is 1, version 2 gets 10 %.",
            "It had to be loaded first.",
        ]
        assert re.fullmatch(r"1 gateway follows after \d+\.\d\d s\.", trial[2])
        assert trial[3:] == ["The way back: tidegate rollback colours (1 stays stable)."]
        assert cells(operator.text("models"))[1] == ["colours", "classify", "1,2,3", "1", "2 (10 %)", "-", "-", "yes"]

        finished = operator.text("promote", "colours").splitlines()
        assert finished[0] == "colours: promote 1 -> 2. Stable is 2."
        assert finished[-1] == "The way back: tidegate rollback colours (to 1)."
        assert "loaded first" not in finished[1], "it was warm"

        back = operator.json("rollback", "colours", "--why", "worse")
        assert (back["action"], back["from"], back["to"], back["cold"], back["gateways"]) == (
            "rollback",
            2,
            1,
            False,
            1,
        )
        bottom = operator.refused("rollback", "colours")
        assert "bottom of the history. Promote one instead: 2, 3." in bottom.stderr
        assert bottom.stdout == ""

        shadow = operator.text("promote", "colours", 2, "--shadow")
        assert "Stable is 1, version 2 gets copies." in shadow
        assert cells(operator.text("models"))[1][5] == "2 (no copies yet)"
        dropped = operator.text("rollback", "colours")
        assert dropped.startswith("colours: rollback 2 -> 1. Stable is 1.")

        bad = operator.refused("promote", "colours", 3)
        assert "digests" in bad.stdout
        assert "FAILED" in bad.stdout
        assert "colours/3 failed" in bad.stderr
        problem = json.loads(operator.refused("promote", "colours", 3, "--force", "--json").stdout)
        assert problem["code"] == "gate_failed"
        assert problem["verdict"]["passed"] is False
        verdict = json.loads(operator.refused("check", "colours", 3, "--json").stdout)
        assert (verdict["version"], verdict["passed"]) == (3, False)

        assert "no version 9" in operator.refused("promote", "colours", 9).stderr
        assert "no model of that name" in operator.refused("history", "nobody").stderr
        assert "no model of that name" in operator.refused("rollback", "nobody").stderr

        history = operator.json("history", "colours")
        assert [(one["action"], one["from"], one["to"], one["why"]) for one in history] == [
            ("canary", 1, 2, "try it"),
            ("promote", 1, 2, ""),
            ("rollback", 2, 1, "worse"),
            ("shadow", 1, 2, ""),
            ("rollback", 2, 1, ""),
        ]
        assert all("@" in one["who"] for one in history), "who typed it"
        lines = cells(operator.text("history", "colours"))
        assert lines[0] == ["TIME", "ACTION", "FROM", "TO", "WHO", "GATE", "WHY"]
        assert re.fullmatch(TIME, lines[1][0])
        assert lines[1][1:4] == ["canary 10 %", "1", "2"]
        assert lines[1][5:] == ["passed", "try it"]


def test_with_no_gateway_the_next_one_starts_so(repository, tmp_path):
    state = tmp_path / "state"
    operator = Operator("--repository", repository, "--state", state)
    assert operator.json("check", "colours", 2)["passed"]
    said = operator.text("promote", "colours", 2)
    assert said.splitlines()[:2] == [
        "colours: promote 1 -> 2. Stable is 2.",
        "No gateway runs on this state; the next one starts so.",
    ]
    assert cells(operator.text("models"))[1] == ["colours", "classify", "1,2,3", "2", "-", "-", "1", "no"]
    assert "digests" in operator.refused("promote", "colours", 3, "--force").stdout
    with gateway_process(repository, state) as gateway:
        assert Operator("--url", gateway.admin_url).json("models")["models"][0]["stable"] == 2
        back = operator.json("rollback", "colours")
        assert (back["stable"], back["gateways"]) == (1, 1), "a gateway that runs on this state follows at once"
        assert Operator("--url", gateway.admin_url).json("models")["models"][0]["stable"] == 1
    assert [one["action"] for one in operator.json("history", "colours")] == ["promote", "rollback"]
    refused = operator.refused("rollback", "colours", "--json")
    assert json.loads(refused.stdout)["code"] == "change_refused"
    assert "Promote one instead: 2, 3" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["promote"],
        ["promote", "colours", "0"],
        ["promote", "colours", "two"],
        ["promote", "colours", "2", "--canary", "0"],
        ["promote", "colours", "2", "--canary", "101"],
        ["promote", "colours", "2", "--canary", "5", "--shadow"],
        ["check", "colours"],
        ["rollback", "colours", "--to", "0"],
        ["rollback", "colours", "--url", "http://127.0.0.1:9", "--repository", "."],
        ["history"],
        ["history", "colours", "--state", "."],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments):
    done = Operator().run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: tidegate ")


@pytest.mark.parametrize(
    "arguments", [["check", "m", "1"], ["promote", "m", "1"], ["rollback", "m"], ["history", "m"]], ids=lambda a: a[0]
)
def test_with_nobody_there_it_is_1_and_says_so(arguments):
    done = Operator("--url", "http://127.0.0.1:9").refused(*arguments)
    assert "No gateway answers at http://127.0.0.1:9" in done.stderr
