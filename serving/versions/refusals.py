"""What stands in the way of a change: the gate's verdict, or what the repository does not hold."""

from __future__ import annotations

import time

from serving.errors import GateFailed, ModelNotFound, RepositoryInvalid, VersionNotFound
from serving.ledger import Summary
from serving.repository.layout import Index
from serving.timestamp import timestamp
from serving.verdict import Check, Verdict


def judged(verdict: Verdict, force: bool) -> Summary:
    """GateFailed unless the version passed, or is forced through where that may be."""
    if verdict.passed:
        return Summary(passed=True)
    failed = verdict.failed()
    if force and verdict.may_be_forced:
        return Summary(passed=False, failed=failed, forced=True)
    why = next(check.detail for check in verdict.checks if check.passed is False)
    remedy = "Mend it and publish another version." if force or not verdict.may_be_forced else "--force overrules this."
    detail = f"{verdict.model}/{verdict.version} failed {', '.join(failed)}: {why.rstrip('.')}."
    raise GateFailed(detail, remedy=remedy, extension={"verdict": verdict.model_dump(mode="json")})


def _problems(index: Index, model: str, place: str) -> list[RepositoryInvalid]:
    """What is wrong with this folder, or with further graphs of the model."""
    starts = (f"{place}/", f"{model}.")
    return [one for one in index.problems if one.file == place or one.file.startswith(starts)]


def absent(index: Index, model: str) -> ModelNotFound:
    """That the repository does not hold the model, and why, if it knows."""
    for problem in _problems(index, model, model):
        return ModelNotFound(problem.detail, remedy=problem.remedy or "Mend it, and try again.")
    return ModelNotFound("There is no model of that name.", remedy="`tidegate models` lists them.")


def broken(index: Index, model: str, version: int) -> Verdict:
    """The verdict of a version that could not even be read; ModelNotFound or VersionNotFound if there is none."""
    problems = _problems(index, model, f"{model}/{version}")
    if not problems:
        if model not in index.models:
            raise absent(index, model)
        versions = ", ".join(map(str, index.models[model].versions))
        raise VersionNotFound(f"{model} has no version {version}.", remedy=f"The repository holds {versions}.")
    check = Check(name="files", passed=False, detail=str(problems[0]))
    now = timestamp(time.time(), "milliseconds")
    return Verdict(model=model, version=version, passed=False, checks=(check,), time=now, digest="")
