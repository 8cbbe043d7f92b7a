"""Photos through /v1/detect and /v1/segment of the committed models: what is found, and where."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import skimage
from http_rig import gateway_process
from picture_rig import STORED

from serving.codecs.mask import from_run_lengths
from serving.monitoring.agreement import box_iou

ROOT = Path(__file__).parents[2]
PHOTOS = Path(skimage.__file__).parent / "data"
PNG = {"content-type": "image/png"}
# Boxes as the weights' first graph gives them.
THINGS = [
    ("motorcycle_left.png", "motorcycle", 0.78, (106, 77, 688, 454)),
    ("camera.png", "person", 0.88, None),
    ("astronaut.png", "person", 0.73, None),
    ("coffee.png", "cup", 0.52, None),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with gateway_process(ROOT / "model_repository", tmp_path_factory.mktemp("state")) as process:
        yield process


def ask(gateway, verb: str, content: bytes, headers=PNG, **parameters) -> httpx.Response:
    url = f"{gateway.url}/v1/{verb}"
    answer = httpx.post(url, content=content, headers=headers, params=parameters, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def corners(prediction) -> list[float]:
    return [prediction["box"][name] for name in ("xmin", "ymin", "xmax", "ymax")]


@pytest.mark.parametrize(("photo", "label", "score", "box"), THINGS, ids=[photo for photo, *_ in THINGS])
def test_things_on_photos_are_found(gateway, photo, label, score, box):
    reply = ask(gateway, "detect", (PHOTOS / photo).read_bytes()).json()
    assert reply["model"] == "nanodet"
    best = reply["predictions"][0]
    assert best["label"] == label
    assert best["score"] == pytest.approx(score, abs=0.02)
    if box is not None:
        assert box_iou(np.array([corners(best)]), np.array([box]))[0, 0] >= 0.95


@pytest.mark.parametrize("orientation", STORED)
def test_a_photo_that_is_stored_turned_is_found_upright(gateway, orientation):
    """The same photo as cameras store it, as JPEG: the box lies where it lies on the upright one."""
    with PIL.Image.open(PHOTOS / "motorcycle_left.png") as photo:
        stored = STORED[orientation](photo.convert("RGB"))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    stored.save(stream, "JPEG", quality=95, exif=exif)
    reply = ask(gateway, "detect", stream.getvalue(), {"content-type": "image/jpeg"}, format="coco").json()
    assert reply["image"] == {"width": 741, "height": 500}
    best = reply["predictions"][0]
    assert best["label"] == "motorcycle"
    x, y, width, height = best["bbox"]
    found = np.array([[x, y, x + width, y + height]])
    assert box_iou(found, np.array([THINGS[0][3]]))[0, 0] >= 0.9


def test_a_person_is_cut_out(gateway):
    """The astronaut: her face and suit, not the flag, the shuttle or the wall. Half of the picture is she."""
    content = (PHOTOS / "astronaut.png").read_bytes()
    (person,) = ask(gateway, "segment", content).json()["predictions"]
    mask = from_run_lengths(person["mask"]["size"], person["mask"]["counts"])
    assert mask.shape == (512, 512)
    assert person["label"] == "person"
    assert person["area"] == mask.sum()
    assert 0.50 < mask.mean() < 0.60
    assert mask[100, 220], "her face"
    assert mask[400, 200], "her suit"
    assert not mask[60, 60], "the flag"
    assert not mask[60, 430], "the shuttle"
    answer = ask(gateway, "segment", content, {**PNG, "accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["tidegate-model"] == "selfie"
    assert answer.headers["vary"] == "accept"
    drawn = PIL.Image.open(io.BytesIO(answer.content))
    assert drawn.mode == "P"
    np.testing.assert_array_equal(np.array(drawn) == 1, mask)


def test_a_type_of_answer_that_there_is_not_is_refused_with_what_there_is(gateway):
    content = (PHOTOS / "astronaut.png").read_bytes()
    url = f"{gateway.url}/v1/segment"
    answer = httpx.post(url, content=content, headers={**PNG, "accept": "text/html"}, timeout=60)
    assert answer.status_code == 406
    assert answer.json()["code"] == "not_acceptable"
    assert "image/png" in answer.json()["remedy"]
