"""What lies in a repository, what is left out and why, and where a model without state starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from serving.errors import RepositoryInvalid
from serving.repository.layout import SINGLE_GRAPH, GraphKey, read_version, scan


def only_problem(root) -> RepositoryInvalid:
    (problem,) = scan(root).problems
    return problem


def test_models_versions_and_graphs_are_found(tmp_path):
    tiny.add_classifier(tmp_path, number=2)
    tiny.add_classifier(tmp_path, number=10)
    tiny.add_plain(tmp_path)
    index = scan(tmp_path)
    assert list(index.models) == ["colours", "double"]
    assert list(index.models["colours"].versions) == [2, 10]
    assert index.problems == ()
    version = index.models["colours"].versions[10]
    assert version.name == "colours/10"
    assert version.manifest.task == "classify"
    assert version.graphs[SINGLE_GRAPH].key == GraphKey("colours", 10)
    assert version.graphs[SINGLE_GRAPH].file == tmp_path / "colours/10/model.onnx"
    plain = index.models["double"].versions[1]
    assert plain.manifest is None
    assert str(plain.graphs[SINGLE_GRAPH].key) == "double/1"


@pytest.mark.parametrize(
    ("seeds", "first"),
    [([], 2), ([3], 3), ([5, 3], 3)],
    ids=["no seed: the lowest", "the seed", "the lowest of two seeds"],
)
def test_a_model_starts_at_its_seed_and_never_at_its_newest(tmp_path, seeds, first):
    for number in (2, 3, 5):
        folder = tiny.add_classifier(tmp_path, number=number)
        tiny.write_classifier_manifest(folder, seed=number in seeds)
    assert scan(tmp_path).models["colours"].first_version == first


def test_graphs_beside_a_model_are_its_own(tmp_path):
    folder = tiny.add_classifier(tmp_path, "captioner")
    tiny.add_plain(tmp_path, "captioner.step")
    tiny.write_classifier_manifest(folder, graphs={"encoder": "captioner", "step": "captioner.step"})
    index = scan(tmp_path)
    assert list(index.models) == ["captioner"]
    graphs = index.models["captioner"].versions[1].graphs
    assert {role: str(graph.key) for role, graph in graphs.items()} == {
        "encoder": "captioner/1",
        "step": "captioner.step/1",
    }


@pytest.mark.parametrize(
    ("graphs", "expected"),
    [
        ({"step": "../elsewhere"}, "expected colours or colours.<graph>"),
        ({"step": "other.step"}, "expected colours or colours.<graph>"),
        ({"step": "colours."}, "expected colours or colours.<graph>"),
        ({"a": "colours", "b": "colours"}, "expected a graph of its own"),
    ],
    ids=["a path", "another model's", "no name", "one graph in two roles"],
)
def test_graphs_are_their_models_own(tmp_path, graphs, expected):
    folder = tiny.add_classifier(tmp_path)
    tiny.write_classifier_manifest(folder, graphs=graphs)
    problem = scan(tmp_path).problems[0]
    assert problem.file == "colours/1/manifest.json"
    assert expected in problem.expected


def test_a_manifest_that_links_to_nowhere_is_a_wrong_one(tmp_path):
    folder = tiny.add_classifier(tmp_path)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to(tmp_path / "nowhere")
    assert "a file that can be read" in scan(tmp_path).problems[0].expected


def test_a_configuration_that_is_a_folder_is_a_problem(tmp_path):
    config = tiny.add_plain(tmp_path).parent / "config.pbtxt"
    config.unlink()
    config.mkdir()
    assert "a file that can be read" in only_problem(tmp_path).expected


def test_a_folder_that_cannot_be_looked_into_is_a_problem(tmp_path, monkeypatch):
    tiny.add_plain(tmp_path)
    tiny.add_classifier(tmp_path)
    iterdir = Path.iterdir

    def refuse(path):
        if path.name == "double":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)  # root, which tests may run as, can look into everything
    assert "Permission denied" in only_problem(tmp_path).expected
    assert list(scan(tmp_path).models) == ["colours"]


@pytest.mark.parametrize("name", ["0", "01", "+1", "v1", "1.0", "99999999999", "one"])
def test_folders_that_are_no_version_numbers_are_not_versions(tmp_path, name):
    tiny.add_classifier(tmp_path)
    (tmp_path / "colours" / name).mkdir()
    assert list(scan(tmp_path).models["colours"].versions) == [1]


@pytest.mark.parametrize("name", ["Colours", "-x", "_x", "a b", "x" * 64, "ü"])
def test_a_name_that_no_model_may_have_is_a_problem(tmp_path, name):
    tiny.add_plain(tmp_path, name)
    assert "expected a name of a-z" in str(only_problem(tmp_path))


@pytest.mark.parametrize("name", [".staging-1", "gone.graph"])
def test_staging_folders_and_stray_graphs_are_passed_over(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "NOTICE").touch()
    assert scan(tmp_path).models == {}
    assert scan(tmp_path).problems == ()


def test_a_version_without_manifest_beside_published_ones_is_half_written(tmp_path):
    tiny.add_classifier(tmp_path, number=1)
    (tiny.add_classifier(tmp_path, number=2) / "manifest.json").unlink()
    assert only_problem(tmp_path).file == "colours/2/manifest.json"
    assert "half-written: expected manifest.json as its other versions have" in str(only_problem(tmp_path))
    assert list(scan(tmp_path).models["colours"].versions) == [1]


def test_one_version_is_read_by_its_folder(tmp_path):
    folder = tiny.add_classifier(tmp_path, number=3)
    assert read_version(folder) == scan(tmp_path).models["colours"].versions[3]


def test_one_wrong_version_leaves_the_others(tmp_path):
    tiny.add_classifier(tmp_path, number=1)
    (tiny.add_classifier(tmp_path, number=2) / "manifest.json").write_text('{"schema": 1}')
    assert only_problem(tmp_path).file == "colours/2/manifest.json"
    assert list(scan(tmp_path).models["colours"].versions) == [1]


def test_one_wrong_model_leaves_the_others(tmp_path):
    tiny.add_classifier(tmp_path)
    (tiny.add_plain(tmp_path).parent / "config.pbtxt").unlink()
    assert only_problem(tmp_path).file == "double/config.pbtxt"
    assert list(scan(tmp_path).models) == ["colours"]


def test_a_version_without_its_model_file_is_a_problem(tmp_path):
    (tiny.add_plain(tmp_path) / "model.onnx").unlink()
    first, second = scan(tmp_path).problems
    assert first.file == "double/1/model.onnx"
    assert "at least one sound version" in second.expected


def test_a_repository_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(RepositoryInvalid, match="--repository"):
        scan(tmp_path / "nowhere")
