"""Runs Python code that kills itself, with SIGKILL, at the n-th time it is about to touch a file.

Python's own audit events tell of each open, rename, mkdir, remove and chmod before it happens, so every step of a
protocol on disk can be the last one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.truncate")
PRELUDE = """
import os, signal, sys
_left = int(os.environ["KILL_AT"])
_place = os.environ["KILL_UNDER"]
_on = False
def _hook(event, arguments):
    global _left
    if _on and event in {events!r} and arguments and isinstance(arguments[0], (str, bytes, os.PathLike)):
        if os.fsdecode(arguments[0]).startswith(_place):
            _left -= 1
            if _left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(_hook)
def arm():
    global _on
    _on = True
"""


def run_until_killed(code: str, at: int, under: str) -> bool:
    """Runs `code`, which calls arm() when it is ready; whether it was killed before its end.

    at: how many times it may touch a file below `under` first.
    """
    program = PRELUDE.format(events=EVENTS) + textwrap.dedent(code)
    environment = {**os.environ, "KILL_AT": str(at), "KILL_UNDER": under}
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.returncode
    return done.returncode != 0
