"""The committed model on real photos, through the whole gateway: what it sees, that it is the network it was made from,
that decoding for speed does not change what it sees, and that callers never get each other's answers.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import PIL.Image
import pytest
import skimage
import sklearn.datasets
from http_rig import gateway_process, metrics

from exporters.family import find_family
from exporters.parity import torch_predict
from serving import plugins
from serving.codecs.image import open_image
from serving.codecs.preprocessing import ImagePreprocessing
from serving.repository.layout import SINGLE_GRAPH
from serving.task import FOLDER

ROOT = Path(__file__).parents[2]
SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.datasets.__file__).parent / "images"
PREPROCESSING = ImagePreprocessing(resize=256, size=224)
PHOTOS = [
    *(SKIMAGE / name for name in ("coffee.png", "chelsea.png", "rocket.jpg", "astronaut.png", "motorcycle_left.png")),
    *(SKIMAGE / name for name in ("retina.jpg", "ihc.png", "hubble_deep_field.jpg")),
    SKLEARN / "flower.jpg",
    SKLEARN / "china.jpg",
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with gateway_process(ROOT / "model_repository", tmp_path_factory.mktemp("state")) as process:
        yield process


def classify(gateway, photo: bytes, top_k: int = 1) -> list[dict]:
    response = httpx.post(f"{gateway.url}/v1/classify", files={"image": photo}, params={"top_k": top_k}, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


@pytest.fixture(scope="module")
def torch_probabilities():
    """Probabilities by torch with the weights as they were published, float32 [n, 1000]."""
    family = find_family("efficientnet")
    signature = plugins.find(FOLDER, "classify", "PLUGIN").signatures[SINGLE_GRAPH]
    predict = torch_predict(family.served(family.network()), signature)
    return lambda pixels: predict({"pixels": pixels})["probabilities"]


@pytest.mark.parametrize(
    ("file", "label", "least"),
    [
        (SKIMAGE / "coffee.png", "espresso", 0.3),
        (SKLEARN / "flower.jpg", "daisy", 0.3),
        (SKIMAGE / "chelsea.png", "tiger cat", 0.3),
        (SKLEARN / "china.jpg", "palace", 0.2),
        (SKIMAGE / "rocket.jpg", "missile", 0.2),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else None,
)
def test_names_what_a_photo_shows(gateway, file, label, least):
    (best,) = classify(gateway, file.read_bytes())
    assert best["label"] == label
    assert best["score"] >= least


def test_served_probabilities_are_torchs_on_the_same_pixels(gateway, torch_probabilities):
    pixels = np.stack([PREPROCESSING.apply(open_image(photo.read_bytes())) for photo in PHOTOS])
    expected = torch_probabilities(pixels)
    for photo, probabilities in zip(PHOTOS, expected, strict=True):
        served = np.zeros(1000)
        for prediction in classify(gateway, photo.read_bytes(), top_k=1000):
            served[prediction["class_id"]] = prediction["score"]
        assert np.abs(served - probabilities).max() <= 1e-3, photo.name


@cache
def crops() -> list[bytes]:
    """100 JPEGs of 300 to 1,600 pixels, cut out of the photos: many are decoded at a fraction of their size."""
    rng = np.random.default_rng(0)
    photos = [PIL.Image.open(photo).convert("RGB") for photo in PHOTOS]
    files = []
    for i in range(100):
        photo = photos[i % len(photos)]
        side = int(min(photo.size) * rng.uniform(0.5, 1.0))
        left, top = (int(rng.integers(0, size - side + 1)) for size in photo.size)
        size = int(rng.uniform(300, 1600))
        file = io.BytesIO()
        photo.crop((left, top, left + side, top + side)).resize((size, size)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def plainly(photo: bytes) -> np.ndarray:
    """The model's view of a photo, decoded whole by Pillow: resize the short side, crop the centre."""
    picture = PIL.Image.open(io.BytesIO(photo)).convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], PIL.Image.Resampling.BICUBIC)
    left, top = ((side - 224) // 2 for side in picture.size)
    return np.asarray(picture.crop((left, top, left + 224, top + 224)))


def test_decoding_for_speed_agrees_with_plain_pillow():
    session = onnxruntime.InferenceSession(ROOT / "model_repository/efficientnet-lite0/1/model.onnx")

    def best(pixels: np.ndarray) -> int:
        return int(session.run(None, {"pixels": pixels[np.newaxis]})[0].argmax())

    agreeing = [best(PREPROCESSING.apply(open_image(file))) == best(plainly(file)) for file in crops()]
    print(f"{sum(agreeing)} of 100 agree")
    assert sum(agreeing) >= 98


def batches_of(gateway) -> float:
    """Batches of the photo model so far."""
    samples = (one for one in metrics(gateway.admin_url) if one.name == "tidegate_batch_rows_count")
    return sum(one.value for one in samples if one.labels["graph"] == "efficientnet-lite0")


def test_32_callers_at_once_get_their_own_answers_and_share_batches(gateway):
    files = crops()[:32]
    alone = [classify(gateway, file, top_k=3) for file in files]
    batches_before = batches_of(gateway)
    with ThreadPoolExecutor(32) as callers:
        together = list(callers.map(lambda file: classify(gateway, file, top_k=3), files * 2))
    for i, answer in enumerate(together):
        expected = alone[i % 32]
        assert [prediction["class_id"] for prediction in answer] == [prediction["class_id"] for prediction in expected]
        np.testing.assert_allclose(
            [prediction["score"] for prediction in answer], [prediction["score"] for prediction in expected], atol=1e-5
        )
    batches = batches_of(gateway) - batches_before
    assert batches < 64, "some ran together"


def test_a_digit_by_name_and_the_default_model(gateway):
    digit = io.BytesIO()
    pixels = sklearn.datasets.load_digits().images[7] * 16
    PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((64, 64)).save(digit, "PNG")
    url = f"{gateway.url}/v1/classify"
    response = httpx.post(url, content=digit.getvalue(), params={"model": "digits-cnn", "top_k": 1})
    assert response.json()["predictions"][0]["label"] == "7"
    assert httpx.post(url, content=digit.getvalue()).json()["model"] == "efficientnet-lite0"


def test_the_examples_of_the_documentation_can_be_sent_as_they_stand(gateway):
    document = httpx.get(f"{gateway.url}/openapi.json").json()
    posts = {path: item["post"] for path, item in document["paths"].items() if "post" in item}
    assert httpx.put(f"{gateway.url}/v1/collections/shop", json={"model": "clip"}).is_success
    told = posts["/v1/feedback"]["requestBody"]["content"]["application/json"]["example"]
    named = {"x-request-id": told["request_id"]}  # of an answer that there must be
    answer = httpx.post(f"{gateway.url}/v1/classify", content=(SKIMAGE / "coffee.png").read_bytes(), headers=named)
    assert answer.json()["predictions"][0]["label"] == told["truth"]
    answers = {path: as_documented(gateway, path, operation) for path, operation in posts.items()}
    (inferred,) = [one for path, one in answers.items() if path.endswith("/infer") and "versions" not in path]
    assert np.argmax(inferred["outputs"][0]["data"]) == 1, "the stroke is a 1"


def as_documented(gateway, path, operation):
    """Asks with the operation's own example; gives the answer, which is like the documented one."""
    example = operation["requestBody"]["content"]["application/json"]["example"]
    named = {one["name"]: one["example"] for one in operation.get("parameters", ()) if one["in"] == "path"}
    answer = httpx.post(f"{gateway.url}{path.format(**named)}", json=example)
    assert answer.is_success, (path, answer.text)
    documented = operation["responses"][str(answer.status_code)]["content"]["application/json"]["example"]
    assert answer.json().keys() == documented.keys(), path
    return answer.json()


def test_nothing_is_said_of_where_the_models_lie(gateway):
    card = httpx.get(f"{gateway.url}/v1/models/efficientnet-lite0").text
    assert str(ROOT) not in card
