"""Versions that can be told apart by every answer, and somebody who switches between them."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import onnxruntime as ort
import tiny
from http_rig import Process, picture, request_bytes
from open_loop import Reply

MODEL = "colours"
PAUSE_S = 1.0  # from one to the next: 100 of them take as long as 20,000 requests
LABELS = {1: ("red", "green", "blue"), 2: ("rouge", "vert", "bleu"), 3: ("rosso", "verde", "blu")}
PICTURE = picture(120, 60, 30)


def request_for(model: str) -> bytes:
    return request_bytes(f"/v1/classify?top_k=3&model={model}", PICTURE)


REQUEST = request_for(MODEL)


def publish(repository: Path, versions: int, model: str = MODEL) -> None:
    """Versions of a model that differ in their outputs and in their labels."""
    for number in range(1, versions + 1):
        folder = tiny.add_classifier(repository, model, number, bias=0.5 * number)
        (folder / "labels.txt").write_text("\n".join(LABELS[number]) + "\n")
        tiny.write_classifier_manifest(folder)


def answers(repository: Path, model: str = MODEL) -> dict[int, dict[str, float]]:
    """What each version says to the picture: label -> score, by ONNX Runtime alone."""
    pixels = np.broadcast_to(np.array([120, 60, 30], np.uint8), (1, 8, 8, 3))
    found = {}
    for folder in (repository / model).iterdir():
        if folder.is_dir():
            session = ort.InferenceSession(folder / "model.onnx")
            number = int(folder.name)
            found[number] = dict(zip(LABELS[number], session.run(None, {"pixels": pixels})[0][0].tolist(), strict=True))
    return found


def admin_of(gateway: Process) -> httpx.Client:
    return httpx.Client(base_url=gateway.admin_url, timeout=60)


def give(client: httpx.Client, verb: str, model: str = MODEL, **body: object) -> dict[str, object]:
    answer = client.post(f"/admin/models/{model}/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def address(gateway: Process) -> tuple[str, int]:
    parts = urlsplit(gateway.url)
    return parts.hostname, parts.port


def judge_of(expected: dict[int, dict[str, float]]):
    """Says what is wrong with a reply: headers, version, labels and scores must all be of one version."""

    def judge(reply: Reply) -> str | None:
        if reply.status != 200:
            return f"{reply.status}: {reply.body[:200]!r}"
        body = json.loads(reply.body)
        if reply.headers["tidegate-version"] != str(body["version"]):
            return f"the header says {reply.headers['tidegate-version']}, the body {body['version']}"
        wanted = expected[body["version"]]
        found = {one["label"]: one["score"] for one in body["predictions"]}
        if found.keys() != wanted.keys() or any(abs(found[name] - wanted[name]) > 1e-5 for name in wanted):
            return f"version {body['version']} gave {found}, expected {wanted}"
        return None

    return judge


class Switcher(threading.Thread):
    """Promotes version 2 and rolls back, in turn. Its client is made once: that alone would hold up the load."""

    def __init__(self, admin: httpx.Client, switches: int) -> None:
        super().__init__()
        self._admin = admin
        self._switches = switches
        self.seconds: list[float] = []

    def run(self) -> None:
        for i in range(self._switches):
            started_s = time.monotonic()
            if i % 2:
                give(self._admin, "rollback")
            else:
                give(self._admin, "promote", version=2)
            self.seconds.append(time.monotonic() - started_s)
            time.sleep(max(0.0, PAUSE_S - self.seconds[-1]))


def version_at(client: httpx.Client) -> int:
    return client.post(f"/v1/classify?model={MODEL}", content=PICTURE, headers={"content-type": "image/png"}).json()[
        "version"
    ]
