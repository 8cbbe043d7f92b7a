"""What may lie in a version's folder. The ways to break the rule are in tests/promises/bad_versions.py, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny

from serving.errors import RepositoryInvalid
from serving.repository.contents import KINDS, MOST_FILES, check_contents
from serving.repository.digests import digest_file, version_digest
from serving.repository.layout import scan

REPOSITORY = Path(__file__).parents[3] / "model_repository"


@pytest.mark.parametrize("folder", sorted(REPOSITORY.glob("*/1")), ids=lambda folder: folder.parent.name)
def test_the_committed_versions_are_as_they_must_be(folder):
    least = 5 if (folder / "manifest.json").is_file() else 2  # a further graph: itself and its golden rows
    assert check_contents(folder, folder.name) >= least


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_may_be_there(tmp_path, kind):
    starts = {".onnx": b"\x08\x09", ".npz": b"PK\x03\x04", ".png": b"\x89PNG\r\n\x1a\n"}
    (tmp_path / f"a{kind}").write_bytes(starts.get(kind, b"anything"))
    assert check_contents(tmp_path, "m/1") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pkl", b""), ("a.pt", b""), ("a.bin", b""), ("a.py", b""), ("a.so", b""), ("a", b""), (".json", b""),
        ("a.ONNX", b"\x08"), ("a.onnx", b""), ("a.onnx", b"\x80\x04\x95"), ("a.onnx", b"PK\x03\x04"),
        ("a.npz", b"\x93NUMPY"), ("a.png", b"GIF89a"),
    ],
)  # fmt: skip
def test_nothing_else_may(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RepositoryInvalid, match=rf"m/1/{name}: expected"):
        check_contents(tmp_path, "m/1")


def test_a_name_in_another_case_is_the_same_name(tmp_path):
    (tmp_path / "straße.txt").touch()
    (tmp_path / "STRASSE.txt").touch()
    with pytest.raises(RepositoryInvalid, match="more than case"):
        check_contents(tmp_path, "m/1")


def test_links_lead_out_of_the_folder(tmp_path):
    folder = tmp_path / "1"
    folder.mkdir()
    (tmp_path / "elsewhere.txt").touch()
    (folder / "a.txt").hardlink_to(tmp_path / "elsewhere.txt")
    with pytest.raises(RepositoryInvalid, match=r"hard link.*Copy the file"):
        check_contents(folder, "m/1")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(tmp_path / "elsewhere.txt")
    with pytest.raises(RepositoryInvalid, match="found a link"):
        check_contents(folder, "m/1")


def test_what_is_no_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "a.json")  # to open it would wait for ever
    with pytest.raises(RepositoryInvalid, match="found a pipe"):
        check_contents(tmp_path, "m/1")


def test_files_are_counted_before_any_is_read(tmp_path):
    for i in range(MOST_FILES + 1):
        (tmp_path / f"{i}.txt").touch()
    with pytest.raises(RepositoryInvalid, match="at most 64 files; found 65"):
        check_contents(tmp_path, "m/1")


def test_a_version_is_known_by_its_manifest_and_a_plain_one_by_its_graphs(tmp_path):
    folder = tiny.add_classifier(tmp_path)
    plain = tiny.add_plain(tmp_path)
    index = scan(tmp_path)
    version = index.models["colours"].versions[1]
    assert version_digest(version) == digest_file(folder / "manifest.json")
    version = index.models["double"].versions[1]
    before = version_digest(version)
    assert version_digest(version) == before
    (plain / "model.onnx").write_bytes((plain / "model.onnx").read_bytes() + b"\x1a\x01x")
    assert version_digest(version) != before
