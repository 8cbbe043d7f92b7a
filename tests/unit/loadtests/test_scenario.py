"""Scenario and SLO files: the shipped ones are read, and what is wrong with others is said."""

from __future__ import annotations

from pathlib import Path

import pytest

import loadtests
from loadtests.arrivals import Phase
from loadtests.scenario import read_scenario
from loadtests.slo import Promise, Slo, Told, read_slo
from loadtests.toml_file import FileInvalid

FOLDER = Path(loadtests.__file__).parent
SMALL = 'title = "t"\nrest = 1\n[[phase]]\nseconds = 10\nrate = [0, 20]\n[[phase]]\nseconds = 30\nrate = 20\n'


def scenario_of(tmp_path, text):
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    return read_scenario(file)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("scenarios/*.toml")), ids=lambda file: file.stem)
def test_the_shipped_scenarios_are_read(file):
    assert read_scenario(file).seconds > 0


def test_the_shipped_slo_is_read():
    assert read_slo(FOLDER / "slo.toml").promise("classify").p99_s > 0


def test_phases_ramp_and_stay(tmp_path):
    assert scenario_of(tmp_path, SMALL).phases == (Phase(10, 0, 20), Phase(30, 20, 20))


def test_another_length_stretches_phases_and_changes(tmp_path):
    change = '[[change]]\nat_s = 20\naction = "rollback"\nmodel = "m"\n'
    short = scenario_of(tmp_path, SMALL + change).at(None, 4)
    assert short.phases == (Phase(1, 0, 20), Phase(3, 20, 20))
    assert short.change[0].at_s == 2


def test_another_rate_stays(tmp_path):
    assert scenario_of(tmp_path, SMALL).at(7, None).phases == (Phase(40, 7, 7),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 1", "title: "),
        (SMALL + "color = 1\n", "phase.1.color"),
        (SMALL.replace("rest = 1", ""), r"expected a \[\[mix\]\] or a `rest`"),
        (SMALL.replace("seconds = 10", "seconds = -1"), "phase.0.seconds"),
        ("title = ", "scenario.toml: "),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, said):
    with pytest.raises(FileInvalid, match=said):
        scenario_of(tmp_path, text)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileInvalid, match=r"nowhere\.toml"):
        read_slo(tmp_path / "nowhere.toml")


def test_a_promise_is_of_the_model_before_the_task_before_the_default_and_the_scenario_goes_before_all():
    slo = Slo(
        default=Told(p99_ms=1000, error_rate=0.01, goodput=0.9),
        task={"caption": Told(p99_ms=3000, goodput=0.8)},
        model={"quick": Told(p99_ms=100)},
    )
    assert slo.promise("caption", "quick", Told(error_rate=0)) == Promise(0.1, 0.0, 0.8, 20)
    assert slo.promise("caption") == Promise(3.0, 0.01, 0.8, 20)
    assert slo.promise("classify", "slow") == Promise(1.0, 0.01, 0.9, 20)
