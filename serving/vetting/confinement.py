"""What the child denies itself, before it looks at a model: memory, time, company, and life without its parent.

It needs no privileges for any of this, so it works wherever the gateway does.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Final

import onnxruntime as ort

from serving.versions.measurements import Job

_SET_PARENT_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG of prctl(2)
_LEAST_URGENT: Final = 19


def bind_to_parent(parent: int) -> None:
    """From here on this process is killed when its parent ends, however that happens; at once if it has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def yield_to_others() -> None:
    """Requests come first, and a crash leaves no file."""
    os.nice(_LEAST_URGENT)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit(job: Job) -> None:
    """Bounds what one more job may take of memory and processor time, beside what the process has taken so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = int(usage.ru_utime + usage.ru_stime)
    _set(resource.RLIMIT_CPU, used_s + job.cpu_s)
    # CUDA maps address space for all memory of host and devices together, many times of what it uses: a limit there
    # would refuse every model. On such hosts the wall clock and the system's own memory limit remain.
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        _set(resource.RLIMIT_AS, _address_space() + job.memory_bytes)


def peak_bytes() -> int:
    """The most memory that this process has had at any time. Source: proc(5), status.

    Not getrusage's on Linux: that one begins with what the process had that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _set(kind: int, value: int) -> None:
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _address_space() -> int:
    """Bytes of address space that are taken now. Source: proc(5), statm."""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text(encoding="ascii").split()[0]) if statm.exists() else 0
    return pages * resource.getpagesize()
