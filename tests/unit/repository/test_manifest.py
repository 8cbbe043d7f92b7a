"""manifest.json and the digests that it lists."""

from __future__ import annotations

import json

import pytest
import tiny

from serving.errors import RepositoryInvalid
from serving.monitoring.reference import Reference
from serving.repository.digests import digest_folder, verify
from serving.repository.manifest import Manifest, read_manifest, with_reference, write_manifest

SOUND = {
    "schema": 1,
    "task": "classify",
    "family": "cnn",
    "created": "2026-01-01T00:00:00+00:00",
    "licence": {"spdx": "MIT", "source": "here"},
    "code": {"revision": "abc", "version": "1"},
    "files": {},
}


@pytest.fixture
def folder(tmp_path):
    return tiny.add_classifier(tmp_path)


def files_of(folder) -> dict[str, str]:
    return dict(read_manifest(folder / "manifest.json", "colours/1/manifest.json").files)


def test_what_is_written_is_read_again(tmp_path):
    manifest = Manifest.model_validate({**SOUND, "metrics": {"accuracy": {"value": 0.9, "floor": 0.8}}})
    write_manifest(tmp_path / "manifest.json", manifest)
    assert read_manifest(tmp_path / "manifest.json", "m") == manifest
    assert json.loads((tmp_path / "manifest.json").read_text())["schema"] == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task": None}, "task"),
        ({"schema": 2}, "schema"),
        ({"metrics": {"accuracy": {"value": "high"}}}, "metrics.accuracy.value"),
        ({"licence": {"spdx": "MIT"}}, "licence.source"),
        ({"flies": {}}, "flies"),
    ],
    ids=["no task", "another schema", "a metric that is text", "half a licence", "an unknown key"],
)
def test_a_wrong_field_is_named(tmp_path, change, field):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**SOUND, **change}))
    with pytest.raises(RepositoryInvalid) as caught:
        read_manifest(path, "m/1/manifest.json")
    assert (caught.value.file, caught.value.field) == ("m/1/manifest.json", field)


def test_text_that_is_not_json_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RepositoryInvalid, match=r"m/1/manifest\.json.*JSON"):
        read_manifest(tmp_path / "manifest.json", "m/1/manifest.json")


def test_a_folder_in_the_files_place_is_named(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(RepositoryInvalid, match=r"^m/1/manifest\.json: expected a file that can be read; found: Is a"):
        read_manifest(tmp_path / "manifest.json", "m/1/manifest.json")


def test_a_digest_is_the_sha_256_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    (tmp_path / "manifest.json").touch()
    # Source: FIPS 180-4, the example of one block.
    expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_folder(tmp_path) == {"abc": expected}


def test_a_published_folder_agrees_with_its_manifest(folder):
    assert files_of(folder) == digest_folder(folder)
    verify(folder, files_of(folder), "colours/1")


def link(folder):
    (folder / "labels.txt").rename(folder.parent / "labels.txt")
    (folder / "labels.txt").symlink_to(folder.parent / "labels.txt")


def folder_instead(folder):
    (folder / "labels.txt").unlink()
    (folder / "labels.txt").mkdir()


CHANGES = {
    "changed": (lambda folder: (folder / "labels.txt").write_text("x\n"), "labels.txt", "expected sha256:"),
    "missing": (lambda folder: (folder / "labels.txt").unlink(), "labels.txt", "expected this file"),
    "added": (lambda folder: (folder / "x.bin").touch(), "x.bin", "expected no file"),
    "a folder added": (lambda folder: (folder / "more").mkdir(), "more", "expected no file"),
    "a link": (link, "labels.txt", "expected a plain file"),
    "a folder": (folder_instead, "labels.txt", "expected a plain file"),
}


@pytest.mark.parametrize(("change", "file", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_a_file_that_differs_is_named(folder, change, file, expected):
    files = files_of(folder)
    change(folder)
    with pytest.raises(RepositoryInvalid) as caught:
        verify(folder, files, "colours/1")
    assert caught.value.file == f"colours/1/{file}"
    assert expected in caught.value.expected
    assert "Publish" in caught.value.remedy


TABLE = {"columns": ["class", "ap", "boxes"], "rows": [["cat", 0.5, 3], ["7", None, 0]]}


def test_tables_are_written_and_read_again(tmp_path):
    manifest = Manifest.model_validate({**SOUND, "tables": {"per_class": TABLE}})
    write_manifest(tmp_path / "manifest.json", manifest)
    assert json.loads((tmp_path / "manifest.json").read_text())["tables"]["per_class"] == TABLE
    read = read_manifest(tmp_path / "manifest.json", "m")
    assert read.tables["per_class"].rows == (("cat", 0.5, 3), ("7", None, 0))


REFERENCE = {
    "rows": 50,
    "inputs": {"brightness": {"counts": [20, 30], "edges": [0.5]}},
    "outputs": {"reply_class": {"counts": [40, 10], "kinds": ['a "cat"\n']}},
}


def test_a_reference_is_written_and_read_again_a_feature_to_a_line(tmp_path):
    manifest = Manifest.model_validate({**SOUND, "reference": REFERENCE})
    write_manifest(tmp_path / "manifest.json", manifest)
    assert read_manifest(tmp_path / "manifest.json", "m") == manifest
    text = (tmp_path / "manifest.json").read_text()
    assert json.loads(text)["reference"] == REFERENCE
    assert '\n      "brightness": {"counts":[20,30],"edges":[0.5]}\n' in text


def test_a_reference_comes_into_a_manifest_that_else_stays_as_it_is(tmp_path):
    write_manifest(tmp_path / "manifest.json", Manifest.model_validate(SOUND))
    bare = (tmp_path / "manifest.json").read_text()
    assert "reference" not in bare
    reference = Reference.model_validate(REFERENCE)
    written = with_reference(bare, reference)
    assert written.startswith(bare.removesuffix("\n}\n"))
    assert with_reference(written, reference) == written
    assert with_reference(written, None) == bare
    other = reference.model_copy(update={"outputs": {}})
    assert json.loads(with_reference(written, other))["reference"] == REFERENCE | {"outputs": {}}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (TABLE | {"rows": [["cat", 0.5]]}, "expected 3 cells in row 0, one for each column; found 2"),
        (TABLE | {"rows": [["cat", 0.5, 3]] * 1001}, "at most 1000"),
        (TABLE | {"columns": []}, "at least 1"),
        (TABLE | {"columns": ["x"] * 65}, "at most 64"),
        (TABLE | {"rows": [["x" * 201, 0.5, 3]]}, "at most 200"),
    ],
    ids=["a short row", "many rows", "no columns", "many columns", "long text"],
)
def test_tables_are_bounded(tmp_path, table, words):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**SOUND, "tables": {"per_class": table}}))
    with pytest.raises(RepositoryInvalid, match=words) as caught:
        read_manifest(path, "m/1/manifest.json")
    assert caught.value.field.startswith("tables.per_class")


def test_there_are_few_tables():
    with pytest.raises(ValueError, match="at most 8"):
        Manifest.model_validate({**SOUND, "tables": {f"t{i}": TABLE for i in range(9)}})
