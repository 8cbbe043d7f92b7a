"""`tidegate check, promote, rollback, history`: forward through the gate, and back."""

from __future__ import annotations

import json
from typing import Any

import click

from serving.commands.target import Failure, ask, options, show, who
from serving.commands.text import history_text, outcome_text, verdict_text

MODEL = click.argument("model")
WHY = click.option("--why", default="", help="For the history.")


@click.command()
@MODEL
@click.argument("version", type=click.IntRange(min=1))
@options
def check(model: str, version: int, as_json: bool, **given: Any) -> None:
    """The gate alone: may this version go live? Its verdict, point by point."""
    verdict = ask(
        given,
        lambda client: client.check(model, version),
        lambda parts: _dumped(parts.changes.check(model, version)),
    )
    show(verdict, as_json, verdict_text)
    if not verdict["passed"]:
        raise SystemExit(1)


@click.command()
@MODEL
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option(
    "--canary", type=click.FloatRange(0, 100, min_open=True), help="Only this share of the requests: percent."
)
@click.option("--shadow", is_flag=True, help="Only copies of requests, after their answers; agreement is counted.")
@click.option("--force", is_flag=True, help="In spite of the gate, where it judges quality; recorded.")
@WHY
@options
def promote(model: str, as_json: bool, **given: Any) -> None:
    """Through the gate, onto all gateways, then live. Without VERSION: the one on trial."""
    order = {name: given.pop(name) for name in ("version", "canary", "shadow", "force", "why")}
    order["who"] = who()
    if order["canary"] is not None and order["shadow"]:
        raise click.UsageError("Give --canary or --shadow, not both.")
    _change(
        given,
        as_json,
        lambda client: client.promote(model, order),
        lambda parts: _promoted(parts, model, order),
    )


@click.command()
@MODEL
@click.option("--to", type=click.IntRange(min=1), help="A version further back.")
@WHY
@options
def rollback(model: str, to: int | None, why: str, as_json: bool, **given: Any) -> None:
    """Back to the version before; while one is on trial, back from that."""
    _change(
        given,
        as_json,
        lambda client: client.rollback(model, {"to": to, "who": who(), "why": why}),
        lambda parts: _dumped(_seeded(parts, lambda: parts.changes.rollback(model, to, who(), why))),
    )


@click.command()
@MODEL
@options
def history(model: str, as_json: bool, **given: Any) -> None:
    """Who was live when, by whom and why; the oldest first."""
    records = ask(given, lambda client: client.history(model), lambda parts: _records(parts, model))
    show(records, as_json, history_text)


def _change(given: dict[str, Any], as_json: bool, online: Any, offline: Any) -> None:
    try:
        outcome = ask(given, online, offline)
    except Failure as failure:
        verdict = failure.problem.get("verdict")
        if as_json:
            click.echo(json.dumps(failure.problem, indent=2))
        elif verdict:
            click.echo(verdict_text(verdict))
        raise
    show(outcome, as_json, outcome_text)


async def _promoted(parts: Any, model: str, order: dict[str, Any]) -> Any:
    from serving.versions.orders import Promotion  # noqa: PLC0415

    promotion = Promotion.ordered(
        model, order["version"], order["canary"], shadow=order["shadow"], force=order["force"]
    )
    return await _dumped(_seeded(parts, lambda: parts.changes.promote(promotion, order["who"], order["why"])))


async def _seeded(parts: Any, act: Any) -> Any:
    await parts.refresh()  # a state that is new gets its pointers first
    return await act()


async def _records(parts: Any, model: str) -> Any:
    await parts.refresh()
    return [record.model_dump(mode="json", by_alias=True) for record in await parts.changes.history(model)]


async def _dumped(result: Any) -> Any:
    return (await result).model_dump(mode="json", by_alias=True)
