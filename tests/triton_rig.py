"""A real Triton for tests, as a process of its own that can be killed, paused and started again.

`make triton-install` puts it in place. Where it is missing, tests are skipped, but never under CI.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf import json_format, text_format
from redis_rig import free_port, until
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy/triton"
PATIENCE_S = 30.0
SHOWN_LINES = 40  # of its log, where it fails


def need_triton() -> None:
    """To be called by whatever cannot do without."""
    if (ROOT / ".triton/installed").exists():
        return
    remedy = "no Triton here: make triton-install"
    if os.environ.get("CI"):
        pytest.fail(remedy)
    pytest.skip(remedy)


class TritonServer:
    """One Triton on free ports of loopback, which loads nothing by itself. `flags`: more of its command line.

    With --disable-auto-complete-config a model loads in .2 s in place of 1.3, if its config.pbtxt is whole, as those of
    `tiny` and of the exporters are.
    """

    def __init__(self, repository: Path, folder: Path, *flags: str) -> None:
        need_triton()
        self.repository = repository
        self.log = folder / "triton.log"
        self.http_port, self.grpc_port, self.metrics_port = free_port(), free_port(), free_port()
        self._flags = flags
        self._shm_prefix = f"tidegate-test-{self.grpc_port}-"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def client(self) -> Client:
        """Over a connection that is made when it is first asked for, and anew after each start."""
        if self._client is None:
            self._client = Client(self.grpc_url)
        return self._client

    def start(self) -> None:
        """Starts it, after a kill on the same ports. Returns when it is ready, with no model loaded."""
        assert self._process is None, "it runs"
        ports = {"HTTP_PORT": self.http_port, "GRPC_PORT": self.grpc_port, "METRICS_PORT": self.metrics_port}
        command = [str(DEPLOY / "start.sh"), str(self.repository), *self._flags]
        command.append(f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **{name: str(port) for name, port in ports.items()}},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            until(self._is_ready, "Triton is ready", PATIENCE_S)
        except BaseException:
            self.close()
            raise

    def kill(self) -> None:
        """As kill -9: its ports refuse. What the server leaves behind, stubs and shared memory, goes too."""
        assert self._process
        self._process.kill()
        self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None
        for left in Path("/dev/shm").glob(f"{self._shm_prefix}*"):  # noqa: S108  (Triton puts them there)
            left.unlink(missing_ok=True)
        if self._client is not None:
            self._client.close()
            self._client = None

    def pause(self) -> None:
        """SIGSTOP to the server: the system goes on accepting connections for it, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        until(self._stands_still, "each of its threads stands still")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kills it, and prints the end of its log, which pytest shows of tests that fail."""
        if self._process is not None:
            self.kill()
            print(f"{self.log}, its end:\n{self.log_tail()}")  # noqa: T201

    def log_tail(self, lines: int = SHOWN_LINES) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stubs(self, model: str) -> dict[str, psutil.Process]:
        """Processes that run the model, each an instance of a version: "1/MODEL_0_0" -> process, the newest of each."""
        found = {}
        for child in sorted(psutil.Process(self.pid).children(), key=psutil.Process.create_time):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                file, name = _of_stub(child.cmdline())
                if re.fullmatch(rf"{re.escape(model)}(_\d+)+", name):
                    found[f"{file.parent.name}/{name}"] = child
        return found

    def _stands_still(self) -> bool:
        stats = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)

    def _is_ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"Triton ended:\n{self.log_tail()}"
        with suppress(grpc.RpcError):
            return self.client.is_ready()
        return False


class Entry(NamedTuple):
    """A line of the repository index. Of a model that was never loaded, Triton tells neither version nor state."""

    state: str
    reason: str


class Client:
    """Triton's gRPC calls, one for one. Errors are grpc.RpcError, with Triton's own code() and details()."""

    def __init__(self, url: str) -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
        self._channel = grpc.insecure_channel(url, options)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def is_ready(self, model: str = "", version: int | None = None) -> bool:
        if not model:
            return self.stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=1).ready
        request = service_pb2.ModelReadyRequest(name=model, version=_text(version))
        return self.stub.ModelReady(request, timeout=PATIENCE_S).ready

    def load(self, model: str, config: Any = None) -> None:
        """`config`: a ModelConfig message that overrides the file, whole."""
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        if config is not None:
            as_json = json_format.MessageToDict(config, preserving_proto_field_name=True)
            request.parameters["config"].string_param = json.dumps(as_json)
        self.stub.RepositoryModelLoad(request, timeout=PATIENCE_S)

    def unload(self, model: str) -> None:
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        self.stub.RepositoryModelUnload(request, timeout=PATIENCE_S)

    def index(self) -> dict[str, Entry]:
        """ "MODEL/VERSION" -> what is said of it."""
        answer = self.stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=PATIENCE_S)
        return {f"{one.name}/{one.version}": Entry(one.state, one.reason) for one in answer.models}

    def infer(
        self, model: str, inputs: Mapping[str, np.ndarray], version: int | None = None, outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        return arrays_of(self.stub.ModelInfer(request_of(model, inputs, version, outputs), timeout=PATIENCE_S))

    def infer_later(self, model: str, inputs: Mapping[str, np.ndarray], version: int | None = None) -> Any:
        """A grpc.Future of the answer's message, which may be cancelled."""
        return self.stub.ModelInfer.future(request_of(model, inputs, version), timeout=PATIENCE_S)

    def metadata(self, model: str, version: int | None = None) -> Any:
        request = service_pb2.ModelMetadataRequest(name=model, version=_text(version))
        return self.stub.ModelMetadata(request, timeout=PATIENCE_S)

    def config(self, model: str, version: int | None = None) -> Any:
        request = service_pb2.ModelConfigRequest(name=model, version=_text(version))
        return self.stub.ModelConfig(request, timeout=PATIENCE_S).config

    def statistics(self, model: str, version: int | None = None) -> Any:
        request = service_pb2.ModelStatisticsRequest(name=model, version=_text(version))
        return self.stub.ModelStatistics(request, timeout=PATIENCE_S).model_stats[0]


def config_of(repository: Path, model: str, versions: Sequence[int] = ()) -> Any:
    """The model's config.pbtxt as a message; with `versions`, for those alone."""
    text = (repository / model / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    if versions:
        config.version_policy.specific.versions[:] = versions
    return config


def request_of(
    model: str, inputs: Mapping[str, np.ndarray], version: int | None = None, outputs: Sequence[str] = ()
) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, model_version=_text(version))
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        request.raw_input_contents.append(_raw(array))
    for name in outputs:
        request.outputs.add(name=name)
    return request


def arrays_of(answer: Any) -> dict[str, np.ndarray]:
    arrays = {}
    for spec, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        flat = (
            deserialize_bytes_tensor(raw)
            if spec.datatype == "BYTES"
            else np.frombuffer(raw, triton_to_np_dtype(spec.datatype))
        )
        arrays[spec.name] = flat.reshape(tuple(spec.shape))
    return arrays


def _of_stub(command: Sequence[str]) -> tuple[Path, str]:
    """The model's file and the instance's name in a stub's command line; nothing in other ones."""
    return (Path(command[1]), command[8]) if len(command) > 8 else (Path(), "")


def _raw(array: np.ndarray) -> bytes:
    if array.dtype != np.object_:
        return array.tobytes()
    encoded = serialize_byte_tensor(array)
    return encoded.item() if encoded.size else b""


def _text(version: int | None) -> str:
    return "" if version is None else str(version)
