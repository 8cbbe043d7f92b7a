"""Drift over HTTP: digits as they were held out, then in the dark; the gauge, the admin port, the command."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest
from http_rig import gateway_process, metrics

from exporters.data.digits import load_digits
from exporters.families.cnn import DigitsCnn
from serving.monitoring.drift import LEAST_ROWS

ROOT = Path(__file__).parents[2]
MOST = 600  # requests until an alert; a window has a thousand


def as_png(pixels) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels[..., 0]).save(file, "PNG")
    return file.getvalue()


def drift(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("tidegate")), "drift", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    shutil.copytree(ROOT / "model_repository" / "digits-cnn", folder / "models" / "digits-cnn")
    with gateway_process(folder / "models", folder / "state", TIDEGATE_DRIFT_RATE="500") as process:
        yield process


def test_digits_in_the_dark_are_seen(gateway):
    digits = load_digits(DigitsCnn.preprocessing).test.inputs["pixels"]
    digits = digits[np.random.default_rng(0).permutation(len(digits))]
    with httpx.Client(base_url=gateway.url) as client, httpx.Client(base_url=gateway.admin_url) as admin:

        def classify(pixels) -> None:
            headers = {"content-type": "image/png"}
            assert client.post("/v1/classify", content=as_png(pixels), headers=headers).is_success

        def version():
            report = admin.get("/admin/models/digits-cnn/drift").json()
            assert report["model"] == "digits-cnn"
            (only,) = report["versions"]
            return only

        assert version()["status"] == "no requests"
        for i in range(MOST):
            classify(digits[i % len(digits)])
            if version()["window_requests"] >= LEAST_ROWS + 20:
                break
        found = version()
        assert found["status"] == "steady", found["note"]
        assert {one["feature"] for one in found["features"]} == {
            "brightness", "contrast", "sharpness", "reply_class", "reply_score"
        }  # fmt: skip
        text = drift("digits-cnn", "--url", gateway.admin_url).stdout
        assert "digits-cnn/1: steady." in text
        assert "359 rows, manifest" in text

        for i in range(MOST):
            classify(digits[i % len(digits)] // 2)
            if version()["status"] == "drifted":
                break
        found = version()
        assert found["status"] == "drifted"
        alerts = {one["feature"] for one in found["features"] if one["alert"]}
        assert "brightness" in alerts
        assert "reply_class" not in alerts
        done = drift("digits-cnn", "--json", "--url", gateway.admin_url)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["versions"][0]["status"] == "drifted"
        assert "DRIFTED" in drift("digits-cnn", "--url", gateway.admin_url).stdout
        assert admin.get("/admin/models/nothing/drift").status_code == 404
        refused = drift("nothing", "--url", gateway.admin_url)
        assert (refused.returncode, "no model of that name" in refused.stderr) == (1, True)

    samples = {
        (sample.name, sample.labels.get("feature")): sample.value
        for sample in metrics(gateway.admin_url)
        if sample.name.startswith("tidegate_drift")
    }
    assert samples["tidegate_drift_alert", "brightness"] == 1
    assert samples["tidegate_drift_alert", "reply_class"] == 0
    assert samples["tidegate_drift_psi", "brightness"] > samples["tidegate_drift_threshold", "brightness"]
    assert {"tidegate_drift_js", "tidegate_drift_ks"} <= {name for name, _ in samples}
    assert samples["tidegate_drift_window_requests", None] > LEAST_ROWS
