"""Plain Triton models move as all others do, and are compared by their tensors."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import tiny
from http_rig import serving, until
from versions_rig import FakeGate


def test_a_plain_model_s_shadow_is_compared_by_its_tensors_and_goes_live(tmp_path):
    for number in (1, 2):
        tiny.add_plain(tmp_path / "repository", number=number)
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}

    async def main():
        async with serving(tmp_path, gate=FakeGate()) as live, httpx.AsyncClient(base_url=live.admin_url) as admin:
            await admin.post("/admin/models/double/shadow", json={"version": 2})
            answer = await live.client.post("/v2/models/double/infer", json=body)
            assert answer.json()["model_version"] == "1"
            await until(lambda: live.parts.shadows.tally("double", 2).compared, "a copy is compared")
            assert live.parts.shadows.tally("double", 2).agreement == pytest.approx(1.0)
            await admin.post("/admin/models/double/promote", json={})
            answer = await live.client.post("/v2/models/double/infer", json=body)
            assert answer.json()["model_version"] == "2"

    asyncio.run(main())
