"""Which graph of a version is meant by a name."""

from __future__ import annotations

import pytest
import tiny

from serving.errors import VersionNotFound
from serving.repository.layout import scan
from serving.telemetry import Meters
from serving.versions.resident import Resident


def resident(root, model: str) -> Resident:
    version = scan(root).models[model].versions[1]
    return Resident(version, None, {}, Meters().request_meter(model, 1, "infer"))


def test_the_only_graph_needs_no_name(tmp_path):
    tiny.add_plain(tmp_path)
    double = resident(tmp_path, "double")
    assert double.role() == double.role("double") == "model"
    with pytest.raises(VersionNotFound, match="Name one of double"):
        double.role("double.step")


def test_graphs_of_several_are_named(tmp_path):
    tiny.add_two_graphs(tmp_path)
    pair = resident(tmp_path, "pair")
    assert pair.role("pair.encoder") == "encoder"
    assert pair.role("pair.decoder") == "model"
    assert pair.key("encoder").name == "pair.encoder"
    for name in ("", "pair", "pair.other", "encoder"):
        with pytest.raises(VersionNotFound, match=r"Name one of pair\.decoder, pair\.encoder"):
            pair.role(name)


def test_a_model_s_own_graph_among_several_needs_no_name(tmp_path):
    folder = tiny.add_classifier(tmp_path, "captioner")
    tiny.add_plain(tmp_path, "captioner.step")
    tiny.write_graphs_manifest(folder, {"encoder": "captioner", "step": "captioner.step"})
    captioner = resident(tmp_path, "captioner")
    assert captioner.role() == captioner.role("captioner") == "encoder"
    assert captioner.role("captioner.step") == "step"


def test_a_role_that_there_is_not_has_no_key(tmp_path):
    tiny.add_plain(tmp_path)
    with pytest.raises(VersionNotFound, match="no graph 'decoder'"):
        resident(tmp_path, "double").key("decoder")
