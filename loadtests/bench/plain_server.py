"""What people write first: FastAPI with a `def` handler around an onnxruntime session. Nothing in it is made slow:
with no `response_model` it is a little quicker than with one.

BENCH_VERSION=folder_of_model.onnx uvicorn --factory loadtests.bench.plain_server:photo --no-access-log
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, UploadFile
from PIL import Image
from pydantic import BaseModel

VERSION_VARIABLE = "BENCH_VERSION"


class Numbers(BaseModel):
    data: list[float]


def tiny() -> FastAPI:
    """POST /predict: numbers in, probabilities out. One intra-op thread, which suits a tiny model best."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(_version() / "model.onnx"), options)
    app = FastAPI()

    @app.post("/predict", response_model=None)
    def predict(body: Numbers) -> dict[str, list[float]]:
        row = np.asarray(body.data, dtype=np.float32)[np.newaxis]
        return {"probabilities": session.run(None, {"x": row})[0][0].tolist()}

    return app


def photo() -> FastAPI:
    """POST /classify: a multipart photo in, the five most probable labels out. onnxruntime's default threads."""
    version = _version()
    session = ort.InferenceSession(str(version / "model.onnx"))
    labels = (version / "labels.txt").read_text().splitlines()
    app = FastAPI()

    @app.post("/classify", response_model=None)
    def classify(image: UploadFile) -> dict[str, list[dict[str, Any]]]:
        pixels = _pixels(Image.open(image.file))
        scores = session.run(None, {"pixels": pixels[np.newaxis]})[0][0]
        best = np.argsort(-scores)[:5].tolist()
        return {"predictions": [{"label": labels[i], "class_id": i, "score": float(scores[i])} for i in best]}

    return app


def _pixels(picture: Image.Image, resize: int = 256, size: int = 224) -> np.ndarray[Any, Any]:
    """The centre of the picture, uint8 [size, size, 3]: short side to `resize`, then cut, as torchvision does."""
    picture = picture.convert("RGB")
    scale = resize / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def _version() -> Path:
    return Path(os.environ[VERSION_VARIABLE])
