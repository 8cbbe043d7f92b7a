"""References of published versions: made the way that requests go, and written without touching anything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from exporters.cli import main
from exporters.family import spread
from exporters.reference import of_version
from serving.repository.digests import verify
from serving.repository.layout import read_version, scan
from serving.repository.manifest import with_reference

REPOSITORY = Path(__file__).parents[3] / "model_repository"
UNSEEN = {"efficientnet-lite0", "nanodet", "selfie"}  # measured on a few photos, of which nothing usual can be told


def test_the_committed_versions_have_references():
    found = {
        name: version.manifest.reference
        for name, model in scan(REPOSITORY).models.items()
        for version in model.versions.values()
    }
    assert {name for name, reference in found.items() if reference is None} == UNSEEN
    for name, reference in found.items():
        if reference:
            assert len(reference.model_dump_json()) < 6000, f"{name}: a few KB"


def test_the_committed_reference_of_digits_is_what_the_command_writes(tmp_path):
    shutil.copytree(REPOSITORY / "digits-cnn", tmp_path / "digits-cnn")
    manifest = tmp_path / "digits-cnn" / "1" / "manifest.json"
    committed = manifest.read_text()
    manifest.write_text(with_reference(committed, None))
    result = CliRunner().invoke(main, ["reference", "digits-cnn", "--repository", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.output == f"wrote {manifest}\n"
    version = read_version(manifest.parent)
    verify(version.folder, version.manifest.files, version.name)
    written, before = version.manifest.reference, read_version(REPOSITORY / "digits-cnn" / "1").manifest.reference
    assert written.inputs == before.inputs
    assert written.outputs["reply_class"] == before.outputs["reply_class"]
    assert written.outputs["reply_score"].edges == pytest.approx(before.outputs["reply_score"].edges, rel=1e-3)
    assert with_reference(manifest.read_text(), None) == with_reference(committed, None)


@pytest.mark.parametrize("model", ["nothing", "../digits-cnn"])
def test_of_no_model_nothing_is_written(tmp_path, model):
    result = CliRunner().invoke(main, ["reference", model, "--repository", str(tmp_path)])
    assert result.exit_code == 2
    assert "There is no model" in result.output


def test_pixels_are_seen_as_the_model_sees_them(tmp_path):
    tiny.add_classifier(tmp_path)
    version = scan(tmp_path).models["colours"].versions[1]
    greys = np.arange(100, dtype=np.uint8)
    asked = [{"pixels": np.full((1, 8, 8, 3), grey, np.uint8)} for grey in greys]
    reference = of_version(version, asked)
    assert reference.rows == 100
    assert reference.inputs["brightness"].counts == (20, 20, 20, 20, 20)
    assert reference.inputs["brightness"].edges[0] == pytest.approx(19.5 / 255, rel=1e-4)
    assert reference.inputs.keys().isdisjoint({"size", "aspect"}), "nobody sent a file"
    assert reference.outputs["reply_class"].kinds == tiny.COLOURS[:1], "grey is as red as it is blue"
    assert of_version(version, asked[:30]) is None, "too few"


def test_texts_are_seen_by_the_versions_own_tokenizer_and_towers_apart(tmp_path):
    tiny.add_embedder(tmp_path, "words")
    version = scan(tmp_path).models["words"].versions[1]
    texts = ["red green", "blue", "red unheard-of words", "green green green"] * 20
    pixels = [{"pixels": np.full((1, 8, 8, 3), (i, 100, 200 - i), np.uint8)} for i in range(60)]
    reference = of_version(version, [*texts, *pixels])
    assert sum(reference.inputs["tokens"].counts) == sum(reference.inputs["characters"].counts) == 80
    assert reference.inputs["unknown_share"].place(0.0) != reference.inputs["unknown_share"].place(0.5)
    assert sum(reference.inputs["brightness"].counts) == 60
    assert sum(reference.outputs["reply_text_mean"].counts) == 80
    assert sum(reference.outputs["reply_image_mean"].counts) == 60


def test_places_are_spread_evenly():
    assert spread(10, 5) == [0, 2, 4, 6, 8]
    assert spread(3, 5) == [0, 1, 2]
    assert spread(0, 5) == []
    assert len(spread(10_001, 1000)) == 1000
