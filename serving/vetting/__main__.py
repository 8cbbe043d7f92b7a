"""The child's loop: a job a line until there are no more."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from serving.versions.measurements import END, Job, Step
from serving.vetting.confinement import bind_to_parent, limit, peak_bytes, yield_to_others
from serving.vetting.steps import vet


def main() -> None:
    """Reads jobs from stdin until it ends, and tells each step on stdout as it is done."""
    bind_to_parent(int(sys.argv[1]))
    yield_to_others()
    # What a library prints would break the lines: its stdout is stderr from here on.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(step: Step) -> None:
        lines.write(step.model_copy(update={"peak_bytes": peak_bytes()}).model_dump_json(exclude_defaults=True) + "\n")
        lines.flush()

    for line in sys.stdin:
        job = Job.model_validate(json.loads(line))
        limit(job)
        asyncio.run(vet(job, tell))
        tell(Step(name=END))


if __name__ == "__main__":
    main()
