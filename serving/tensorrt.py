"""TensorRT plans: which host each was built for, and whether it may run on this one.

A plan runs on the GPU and with the TensorRT that it was built with, and nowhere else. Beside it there is always the
ONNX graph that it was built from, which runs everywhere.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Built(Protocol):
    """What a plan was built with, as its record in the manifest says it."""

    @property
    def gpu(self) -> str: ...
    @property
    def compute_capability(self) -> str: ...
    @property
    def tensorrt(self) -> str: ...


class Host(NamedTuple):
    """What Triton's host has: the GPU and its compute capability as nvidia-smi says them, and TensorRT's version."""

    gpu: str
    compute_capability: str
    tensorrt: str


def read_host(text: str) -> Host:
    """`NVIDIA H200, 9.0, 10.13.3`: the name, the compute capability and TensorRT's version. ValueError."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(parts):
        raise ValueError("expected GPU, compute capability and TensorRT's version, such as NVIDIA H200, 9.0, 10.13.3")
    return Host(*parts)


def misfit(plan: Built, host: Host | None) -> str | None:
    """Why the plan may not run there; None when it may."""
    if host is None:
        return "nothing is known of Triton's GPU and TensorRT"
    for name, built, found in (
        ("GPU", plan.gpu, host.gpu),
        ("compute capability", plan.compute_capability, host.compute_capability),
        ("TensorRT", plan.tensorrt, host.tensorrt),
    ):
        if built != found:
            return f"it was built for {name} {built}, and Triton has {found}"
    return None
