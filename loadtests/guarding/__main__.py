"""`make guard-plot`: how long the guard takes to find a harm, by the traffic there is, drawn for docs/guard.md."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from loadtests.guarding.world import HARMS, HEALTHY, World, run
from serving.guard.case import Back
from serving.trial import Policy

RATES: Final = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
LONGEST_S: Final = 900.0
POLICY: Final = Policy(step_s=LONGEST_S)  # the canary stays where it is


@click.command(context_settings={"show_default": True})
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("docs/guard"))
@click.option("--seeds", default=20, help="Trials for each point.")
@click.option("--percent", default=(50.0, 10.0), multiple=True, help="Of the requests, that the canary gets.")
def main(out: Path, seeds: int, percent: tuple[float, ...]) -> None:
    """Draws trials, writes detection.json and detection.png."""
    out.mkdir(parents=True, exist_ok=True)
    found = {
        name: {f"{share:g}": [_found(world, rate, share, seeds) for rate in RATES] for share in percent}
        for name, (_, world) in HARMS.items()
    }
    healthy = [run(HEALTHY, Policy(step_s=20, step_requests=100), seed, percent=1.0) for seed in range(5 * seeds)]
    back = sum(isinstance(end.decision, Back) for end in healthy)
    measured = {"rates": RATES, "seeds": seeds, "found": found, "healthy": len(healthy), "healthy_back": back}
    (out / "detection.json").write_text(json.dumps(measured, indent=1) + "\n")
    _draw(measured, out / "detection.png")
    click.echo(f"{back} of {len(healthy)} healthy canaries were taken back; {out}/detection.png")


def _found(world: World, rate: float, percent: float, seeds: int) -> dict[str, float | None]:
    """Of so many trials: the median and the 95th percentile of seconds, None where fewer were found in time."""
    ends = [
        run(replace(world, rate=rate), POLICY, seed, percent=percent, longest_s=LONGEST_S - 1) for seed in range(seeds)
    ]
    seconds = sorted(end.seconds if isinstance(end.decision, Back) else np.inf for end in ends)
    levels = {
        name: float(np.quantile(seconds, level, method="higher")) for name, level in (("median", 0.5), ("p95", 0.95))
    }
    return {name: value if np.isfinite(value) else None for name, value in levels.items()}


def _draw(measured: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415  (slow to import)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    shares = list(next(iter(measured["found"].values())))
    figure, axes = plt.subplots(1, len(shares), figsize=(6 * len(shares), 4.5), sharey=True, layout="constrained")
    for axis, share in zip(np.atleast_1d(axes), shares, strict=True):
        for name, by_share in measured["found"].items():
            points = by_share[share]
            [line] = axis.plot(measured["rates"], [point["median"] or np.nan for point in points], "o-", label=name)
            axis.plot(
                measured["rates"],
                [point["p95"] or np.nan for point in points],
                ":",
                color=line.get_color(),
                linewidth=1,
            )
        axis.set(xscale="log", yscale="log", xlabel="requests a second, of both versions", title=f"canary of {share} %")
        axis.axhline(30, color="grey", linewidth=0.5)
        axis.grid(visible=True, alpha=0.3)
    np.atleast_1d(axes)[0].set_ylabel("seconds until the way back (dotted: 95th percentile)")
    np.atleast_1d(axes)[-1].legend(fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
