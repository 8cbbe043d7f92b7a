"""What the gateway can be told: command line over `TIDEGATE_*` environment over defaults. Only bootstrap reads it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from serving.errors import SettingsInvalid
from serving.tensorrt import read_host
from serving.trial import Mode

Port = Annotated[int, Field(ge=0, le=65_535)]


def _state_folder() -> Path:
    return Path(platformdirs.user_state_dir("tidegate"))


def _cores() -> int:
    """The processors this process may use, which containers and taskset make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Sizes in bytes, times in seconds where the name ends in `_s`."""

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", frozen=True, extra="ignore")

    repository: Path = Path("model_repository")
    state: Path = Field(default_factory=_state_folder)
    host: str = "127.0.0.1"
    port: Port = 8080
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8081
    grpc_port: Port = Field(default=8090, description="on the same host as `port`")
    keys: Path | None = Field(default=None, description="the key file; without it keys.json in the state folder")
    engine: str = "onnx"
    triton_url: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9.-]+:[0-9]{1,5}$|^\[[0-9A-Fa-f:]+\]:[0-9]{1,5}$",
        description="host:port of Triton's gRPC, for the engine triton; the same text at all gateways that share it",
    )
    triton_host: str | None = Field(
        default=None, description="GPU, compute capability and TensorRT of Triton's host: NVIDIA H200, 9.0, 10.13.3"
    )
    redis: str | None = Field(
        default=None, repr=False, description="URL of the Redis that several gateways share their state in"
    )
    redis_password_file: Path | None = Field(default=None, description="what goes into that URL, which then has none")
    load_timeout_s: float = Field(default=120.0, gt=0, description="for all gateways to load a version to be promoted")
    # The models that answer when a request names none. A name that the repository does not hold is passed over.
    default_models: Annotated[Mapping[str, str], NoDecode] = {
        "caption": "captioner",
        "classify": "efficientnet-lite0",
        "detect": "nanodet",
        "embed": "clip",
        "generate-images": "diffusion",
        "segment": "selfie",
    }
    cores: int = Field(default_factory=_cores, ge=1)
    body_limit: int = Field(default=25 * 2**20, ge=1)
    tensor_json_limit: int = Field(default=2**20, ge=1, description="JSON of tensors blocks the loop while it is read")
    max_in_flight: int = Field(default=1024, ge=1, description="requests at once, over all models")
    request_timeout_s: float = Field(default=60.0, gt=0, description="the longest a caller may ask to wait")
    guard: Mode = Field(
        default="advise", description="what is done about versions on trial of whose guard nobody said anything"
    )
    webhook: str = Field(
        default="", repr=False, pattern=r"^$|^https?://[^\s]+$", description="who is told of what the guard did"
    )
    job_queue_limit: int = Field(default=256, ge=1, description="jobs that wait or run, of all gateways together")
    job_concurrency: int = Field(
        default=8, ge=0, description="jobs that this gateway runs at once; 0: it only takes them"
    )
    job_timeout_s: float = Field(default=600.0, gt=0, description="the longest that a job may take, once it is begun")
    job_lease_s: float = Field(
        default=10.0, ge=0.5, description="after which a job of a gateway that died is another's"
    )
    job_result_ttl_s: float = Field(default=86_400.0, gt=0, description="how long a job is known after its end")
    drift_rate: float = Field(default=10.0, ge=0, description="requests of each version that are looked at a second")
    feedback_answers: int = Field(default=50_000, ge=0, description="answers remembered for truths to come; 0: none")
    feedback_bytes: int = Field(default=32 * 2**20, ge=0, description="what they may take of memory, about")
    feedback_age_s: float = Field(default=900.0, gt=0, description="how long each is remembered")
    capture: float = Field(default=0.0, ge=0, le=1, description="share of requests kept in the state folder; 0: none")
    capture_bytes: int = Field(default=256 * 2**20, ge=2**16, description="of the disk, all of them; the oldest go")
    capture_redact: str | None = Field(default=None, description="module:function that each goes through before")
    otlp_endpoint: str | None = Field(default=None, description="URL of a collector of traces, by OTLP over HTTP")
    otlp_headers_file: Path | None = Field(default=None, description="Name: value, a line each, sent to the collector")
    trace_ratio: float = Field(default=0.01, ge=0, le=1, description="of requests whose callers did not decide")
    trace_per_s: int = Field(default=25, ge=0, description="the most traces a second")
    request_log: float = Field(default=1.0, ge=0, le=1, description="share of requests that are logged, a line each")
    request_log_per_s: int = Field(default=100, ge=0, description="the most such lines a second")
    log_format: Literal["text", "json"] = "text"
    drain_delay_s: float = Field(default=5.0, ge=0, description="still taking requests while balancers turn away")
    drain_timeout_s: float = Field(default=30.0, ge=0, description="how long requests in flight may take to finish")

    @field_validator("default_models", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        """`classify=resnet,detect=yolo` as a mapping."""
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if any(not (task.strip() and model.strip()) for task, _, model in pairs):
            raise ValueError("expected task=model pairs with commas between, such as classify=resnet,detect=yolo")
        return {task.strip(): model.strip() for task, _, model in pairs}

    @field_validator("triton_host")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        """Nothing in it means that nobody knows, as where a file passes a variable on that nobody set."""
        if value:
            read_host(value)
        return value or None

    @field_validator("host", "admin_host")
    @classmethod
    def _address(cls, value: str) -> str:
        if value != "localhost":
            try:
                ipaddress.ip_address(value)
            except ValueError:
                raise ValueError("expected an IP address, or localhost") from None
        return value

    @property
    def keys_file(self) -> Path:
        """Where the keys are, if there are any."""
        return self.keys or self.state / "keys.json"

    @property
    def grpc_port_is_asked_for(self) -> bool:
        """Whether somebody chose it. The default one may be missing, if another program has it."""
        return "grpc_port" in self.model_fields_set

    @property
    def exposed(self) -> Mapping[str, str]:
        """The settings with an address that others than this machine reach. gRPC is on `host` as well."""
        hosts = {"host": self.host, "admin_host": self.admin_host}
        return {
            name: host
            for name, host in hosts.items()
            if host != "localhost" and not ipaddress.ip_address(host).is_loopback
        }


def read_settings(**given: object) -> Settings:
    """Settings from what is given (None means not given), the environment and the defaults.

    A password that lies in a file is put where it belongs. SettingsInvalid names the setting and what was expected.
    """
    try:
        settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise SettingsInvalid(f"{option(name)}: {first['msg']}.") from None
    if settings.redis_password_file is None:
        return settings
    url = _with_password(settings.redis or "", settings.redis_password_file)
    return settings.model_copy(update={"redis": url})


def _with_password(url: str, file: Path) -> str:
    """The URL of Redis with the password in the file. SettingsInvalid, without either of them."""
    name = option("redis_password_file")
    try:
        password = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsInvalid(f"{name}: {file}: {error.strerror or 'it cannot be read'}.") from None
    except UnicodeDecodeError:
        password = ""
    if not password or any(not letter.isprintable() for letter in password):
        raise SettingsInvalid(f"{name}: {file}: expected a line of text, the password.")
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    user, _, host = parts.netloc.rpartition("@")
    if not host or ":" in user:
        remedy = f"Write {option('redis')} as redis://[user@]host[:port]."
        raise SettingsInvalid(f"{name}: expected a URL of Redis that has no password.", remedy=remedy)
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def option(name: str) -> str:
    """A setting as people give it."""
    return f"--{name.replace('_', '-')} (TIDEGATE_{name.upper()})"
