"""The repository that a load test's own gateway gets: what is asked, and copies of versions to be promoted."""

from __future__ import annotations

from loadtests.gateway_process import START_LINE, part_of


def repository_of(folder, *graphs):
    for graph in graphs:
        (folder / graph / "3").mkdir(parents=True)
        (folder / graph / "3" / "model.onnx").write_text(graph)
    return folder


def test_only_the_models_that_are_asked_are_there_with_all_their_graphs(tmp_path):
    repository = repository_of(tmp_path, "a", "b", "b.text", "bb")
    with part_of(repository, {"b"}, {}) as part:
        assert {path.name for path in part.iterdir()} == {"b", "b.text"}
    assert not part.exists()


def test_copies_stand_beside_the_lowest_version_of_each_graph(tmp_path):
    repository = repository_of(tmp_path, "a", "b", "b.text")
    with part_of(repository, (), {"b": 5}) as part:
        assert (part / "b" / "5" / "model.onnx").read_text() == "b"
        assert (part / "b.text" / "5" / "model.onnx").read_text() == "b.text"
        assert [path.name for path in (part / "a").iterdir()] == ["3"]
    assert [path.name for path in (repository / "b").iterdir()] == ["3"]


def test_a_repository_that_is_wanted_whole_is_itself(tmp_path):
    with part_of(tmp_path, (), {}) as part:
        assert part == tmp_path


def test_both_addresses_are_read_from_the_start_line():
    line = "tidegate serves a/1, b/2 on http://127.0.0.1:80 (admin http://127.0.0.1:81, gRPC 127.0.0.1:82)"
    assert START_LINE.search(line).groups() == ("http://127.0.0.1:80", "http://127.0.0.1:81")
    assert START_LINE.search("tidegate serves no model on http://h:1 (admin http://h:2, no gRPC: port 8090 is taken)")
