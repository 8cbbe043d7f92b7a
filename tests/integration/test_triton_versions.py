"""Canary, shadow, gate, promotion and rollback through a gateway before a real Triton."""

from __future__ import annotations

import httpx
import pytest
import tiny
from http_rig import gateway_process, picture, wait_until
from triton_gateways import Triton, environment_of

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """A gateway before Triton with three versions, the third of them damaged; clients of both of its ports."""
    folder = tmp_path_factory.mktemp("versions")
    repository = folder / "models"
    for number in (1, 2, 3):
        tiny.add_classifier(repository, number=number, bias=0.01 * number)
    model = repository / "colours/3/model.onnx"
    model.write_bytes(model.read_bytes()[:-9])
    with (
        Triton(repository, folder / "triton") as server,
        gateway_process(repository, folder / "state", **environment_of(server)) as gateway,
        httpx.Client(base_url=gateway.url) as public,
        httpx.Client(base_url=gateway.admin_url, timeout=60) as admin,
    ):
        yield server, public, admin


def order(admin, verb, status=200, **body):
    answer = admin.post(f"/admin/models/colours/{verb}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def versions(public, count=40, **query) -> set[int]:
    """Who answers callers of different names."""
    told = [
        public.post("/v1/classify", params=query, content=picture(120), headers={**PNG, "tidegate-sticky": str(i)})
        for i in range(count)
    ]
    assert {answer.status_code for answer in told} == {200}
    return {answer.json()["version"] for answer in told}


def test_versions_move_as_on_the_embedded_engine(rig):
    server, public, admin = rig
    assert versions(public) == {1}
    assert order(admin, "canary", version=2, percent=50)["cold"]
    assert server.ready("colours") == {1, 2}
    assert versions(public) == {1, 2}
    assert versions(public, count=5, version=2) == {2}
    order(admin, "rollback")
    assert versions(public) == {1}

    order(admin, "shadow", version=2)
    assert versions(public) == {1}
    shadow = {}

    def compared() -> bool:
        shadow.update(public.get("/v1/models/colours").json()["shadow"])
        return shadow["compared"] > 0

    wait_until(compared, "copies are compared")
    assert (shadow["version"], shadow["agreement"], shadow["failed"]) == (2, 1.0, 0)
    assert order(admin, "promote")["stable"] == 2
    assert versions(public) == {2}
    assert order(admin, "rollback")["stable"] == 1
    assert versions(public) == {1}


def test_the_gate_refuses_a_damaged_version_before_triton_sees_it(rig):
    server, public, admin = rig
    problem = order(admin, "promote", status=409, version=3)
    assert problem["code"] == "gate_failed"
    assert 3 not in server.ready("colours")
    assert versions(public, count=3) == {1}


def test_a_model_is_taken_out_of_service_and_back(rig):
    server, public, admin = rig
    assert admin.post("/v2/repository/models/colours/unload").status_code == 200
    answer = public.post("/v1/classify", content=picture(), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (503, "model_not_ready")
    wait_until(lambda: not server.ready("colours"), "Triton lets go of it")
    assert admin.post("/v2/repository/models/colours/load").status_code == 200
    assert versions(public, count=3) == {1}
