"""What was measured, as it is kept in docs/scaling/measured.json, and what was taken from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from loadtests.simulation.shared_state import StateCosts


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Route(_Part):
    """A request's way through a gateway: bytes sent, CPU seconds of the event loop and of decoding."""

    sent_bytes: int
    loop_s: float
    decode_s: float


class Level(_Part):
    """A rate, as a share of what the model can do, at a real gateway and in the simulation. Seconds; shares of what
    was due.
    """

    share: float
    rate: float
    requests: int
    late_p99_s: float
    measured_p50_s: float
    measured_p99_s: float
    measured_goodput: float
    simulated_p50_s: float
    simulated_p99_s: float
    simulated_goodput: float


class Measured(_Part):
    """Of one machine. runs: rows of a run of the photo model on one core -> seconds a run; members: gateways -> seconds
    of Redis to say what all of them say, and CPU seconds of a gateway to read it.
    """

    machine: str
    date: str
    photo: Route
    text: Route
    photo_on_triton_loop_s: float | None
    runs: Mapping[int, float]
    load_s: float
    announce_s: float
    look_s: float
    read_s: float
    members: Mapping[int, tuple[float, float]]
    member_bytes: int
    levels: tuple[Level, ...] = ()

    def state_costs(self) -> StateCosts:
        """A straight line through the few and the many gateways that were tried."""
        few, many = min(self.members), max(self.members)
        span = many - few
        member_s, parse_s = ((self.members[many][i] - self.members[few][i]) / span for i in (0, 1))
        members_s = max(0.0, self.members[few][0] - few * member_s)
        return StateCosts(self.announce_s, self.look_s, self.read_s, members_s, member_s, max(0.0, parse_s))


class Accelerator(_Part):
    """A GPU and a model, as others published it or as it is assumed here. A run of n rows: base_s + n * row_s."""

    name: str
    source: str
    base_s: float
    row_s: float
    max_batch_size: int

    @property
    def rate(self) -> float:
        """Rows a second in full batches."""
        return self.max_batch_size / (self.base_s + self.max_batch_size * self.row_s)


# MLPerf Inference v3.0, closed, offline: ResNet-50 on 8 A100 through Triton, 200,014 images a second. How a run's time
# divides into what it costs anyway and what a row costs is assumed: half of a batch of 64.
FAST: Final = Accelerator(
    name="a photo classifier on an A100",
    source="25,000 rows/s as MLPerf v3.0 has it for ResNet-50 behind Triton; batches of 64 assumed",
    base_s=0.00128,
    row_s=0.00002,
    max_batch_size=64,
)
HEAVY: Final = Accelerator(
    name="a model of 100 rows a second",
    source="assumed: what a large vision or a small diffusion model does",
    base_s=0.02,
    row_s=0.0075,
    max_batch_size=8,
)


class Kind(_Part):
    """A host as it is rented with 8 GPUs."""

    gpus: int = 8
    cores: int = 96
    gateways: int = 16
    gigabits: float = 100.0

    @property
    def bytes_s(self) -> float:
        return self.gigabits * 1e9 / 8


def read_measured(path: Path) -> Measured:
    return Measured.model_validate_json(path.read_text())


def write_measured(path: Path, measured: Measured) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(measured.model_dump_json(indent=2) + "\n")
