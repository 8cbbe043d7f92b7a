"""`tidegate guard`: how versions on trial are guarded, and how the trial stands."""

from __future__ import annotations

from typing import Any

import click

from serving.commands.target import ask, options, show, who
from serving.commands.text import guard_text

# Option -> field of the policy, and what it means.
FIGURES = {
    "step-seconds": ("step_s", "What each step of a canary takes at least."),
    "step-requests": ("step_requests", "What each step of a canary gets at least."),
    "watch-seconds": ("watch_s", "How long a version is watched that was promoted."),
    "risk": ("risk", "The chance that a version that is no worse is taken back."),
    "slowdown": ("slowdown", "Let pass: so many times the other version's seconds."),
    "disagreement": ("disagreement", "Let pass: this mean share of copies answered otherwise."),
    "loss": ("loss", "Let pass: so much less of the live metric."),
    "errors": ("errors", "Let pass: this share of failures more."),
    "drift": ("drift", "Let pass: inputs with this PSI from the other version's."),
}


def percents(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    """Numbers with commas between."""
    try:
        return None if value is None else [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter("expected percents such as 1,10,50,100", context, parameter) from None


def figures(command: Any) -> Any:
    """An option for each figure of a policy."""
    for option, (field, meaning) in reversed(FIGURES.items()):
        command = click.option(f"--{option}", field, type=float, help=meaning)(command)
    return command


@click.command()
@click.argument("model")
@click.option("--mode", type=click.Choice(["off", "advise", "act"]), help="Nothing; say what it would do; do it.")
@click.option("--steps", callback=percents, help="Percents that a canary climbs, such as 1,10,50,100.")
@figures
@click.option("--as-published", is_flag=True, help="Forget what was set: as the manifests of the versions say.")
@click.option("--why", default="", help="For the history.")
@options
def guard(model: str, as_published: bool, why: str, as_json: bool, **given: Any) -> None:
    """How versions of MODEL on trial are guarded, and how the trial stands. With options: sets it."""
    names = ("mode", "steps", *(field for field, _ in FIGURES.values()))
    changed = {name: value for name in names if (value := given.pop(name)) is not None}
    if changed and as_published:
        raise click.UsageError("--as-published takes back what else would be set.")
    if "step_requests" in changed:
        changed["step_requests"] = int(changed["step_requests"])
    asks = changed or as_published

    def online(client: Any) -> Any:
        state = client.guard(model)
        if not asks:
            return state
        return client.set_guard(model, _order({} if as_published else {**state["policy"], **changed}, why))

    async def offline(parts: Any) -> Any:
        from serving.settings import read_settings  # noqa: PLC0415  (the other commands start without it)
        from serving.trial import Policy  # noqa: PLC0415

        await parts.refresh()
        said = (await parts.changes.pointers(model)).guard
        policy = said or Policy(mode=read_settings().guard)
        if asks:
            wanted = None if as_published else _policy(Policy, {**policy.model_dump(), **changed})
            said = await parts.changes.guard(model, wanted, who(), why)
        shown = (said or policy).model_dump(mode="json")
        return {"model": model, "policy": shown, "said": said is not None, "trial": None, "leads": False}

    show(ask(given, online, offline), as_json, guard_text)


def _order(policy: dict[str, Any], why: str) -> dict[str, Any]:
    return {"policy": policy or None, "who": who(), "why": why}


def _policy(kind: Any, fields: dict[str, Any]) -> Any:
    try:
        return kind.model_validate(fields)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
