"""docs/scaling.md: between its marks stand tables that are written here, from figures; the rest is written by people.

<!-- begin NAME --> ... <!-- end NAME -->
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from loadtests.simulation.bounds import Bounds, bounds, costs_of, one_process
from loadtests.simulation.figures import FAST, HEAVY, Accelerator, Kind, Measured
from loadtests.simulation.study import BUSY, Balanced, Scale, Shared
from serving.redis.link import EXCHANGE_S

Rows = Sequence[Sequence[str]]


class MarkMissing(Exception):
    """The page has no place for a table."""


def put(text: str, tables: Mapping[str, str]) -> str:
    """The page with its tables written anew. MarkMissing."""
    for name, table in tables.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
        if found is None:
            raise MarkMissing(f"{begin} ... {end}")
        text = f"{text[: found.start()]}{begin}\n{table}\n{end}{text[found.end() :]}"
    return text


def tables(
    measured: Measured, kind: Kind, scales: Sequence[Scale], balanced: Sequence[Balanced], shared: Sequence[Shared]
) -> dict[str, str]:
    """All of them, by name."""
    return {
        "costs": costs_table(measured),
        "process": process_table(measured),
        "host": host_table(measured, kind),
        "scale": scale_table(scales),
        "balancers": balancers_table(balanced),
        "redis": redis_table(shared),
        "first": first_list(measured, kind, shared),
        "validation": validation_table(measured),
    }


def costs_table(measured: Measured) -> str:
    photo, state = measured.photo, measured.state_costs()
    on_triton = measured.photo_on_triton_loop_s
    rows = [
        (f"a photo of {photo.sent_bytes / 1000:.0f} kB: decoded and resized", _ms(photo.decode_s)),
        ("the same: all else that the gateway does, model inside the process", _ms(photo.loop_s)),
        ("the same: all else that the gateway does, Triton behind it", _ms(on_triton) if on_triton else "not measured"),
        ("a text of some words: all that the gateway does", _ms(measured.text.loop_s)),
        *(
            (f"EfficientNet-Lite0, a run of {rows} on one core, a row", _ms(seconds / rows))
            for rows, seconds in sorted(measured.runs.items())
        ),
        ("Redis: a gateway says that it lives", _us(state.announce_s)),
        ("Redis: a gateway asks whether pointers moved", _us(state.look_s)),
        ("Redis: all pointers", _us(state.read_s)),
        ("Redis: what n gateways say", f"{_us(state.members_s)} + n x {state.member_s * 1e6:.2f} us"),
        ("a gateway reads what n gateways say", f"n x {state.parse_s * 1e6:.1f} us"),
    ]
    return _table(("CPU time of", f"on {measured.machine}, {measured.date}"), rows)


def process_table(measured: Measured) -> str:
    rows = []
    for cores in (1, 2, 4, 8, 16):
        found = one_process(measured, cores)
        first = min(found, key=lambda part: found[part])
        rows.append((str(cores), f"{found['cores']:,.0f}", f"{found['event loop']:,.0f}", first))
    return _table(("cores", "photos/s by cores", "photos/s by the event loop", "gives way first"), rows)


def host_table(measured: Measured, kind: Kind) -> str:
    limits = {accelerator.name: bounds(measured, accelerator, kind) for accelerator in (FAST, HEAVY)}
    head = ("part", *(f"requests/s: {name}" for name in limits))
    parts = next(iter(limits.values())).parts

    def cell(found: Bounds, part: str) -> str:
        shown = f"{found.parts[part]:,.0f}"
        return f"**{shown}**" if found.first == part else shown

    return _table(head, [(part, *(cell(found, part) for found in limits.values())) for part in parts])


def scale_table(scales: Sequence[Scale]) -> str:
    rate = f"requests/s, {BUSY:.0%} of the first bound"
    head = ("model", "GPUs", "hosts", rate, "p50 ms", "p99 ms", "busy: event loops", "GPUs", "rows a run")
    rows = [
        (
            one.accelerator.name,
            f"{one.gpus:,}",
            f"{one.hosts:,}",
            f"{one.rate:,.0f}",
            f"{one.result.percentile_s(0.5) * 1e3:.1f}",
            f"{one.result.percentile_s(0.99) * 1e3:.1f}",
            f"{one.result.busy['event loop']:.0%}",
            f"{one.result.busy['GPU']:.0%}",
            f"{one.result.batch_rows:.1f}",
        )
        for one in scales
    ]
    return _table(head, rows)


def balancers_table(balanced: Sequence[Balanced]) -> str:
    names = list(dict.fromkeys(one.balancer for one in balanced))
    levels = list(dict.fromkeys((one.gpus_a_host, one.share) for one in balanced))
    found = {(one.gpus_a_host, one.share, one.balancer): one.result for one in balanced}

    def cell(level: tuple[int, float], name: str) -> str:
        result = found[*level, name]
        refused = f", {result.refused / result.due:.1%} refused" if result.refused else ""
        return f"{result.percentile_s(0.99) * 1e3:.0f}{refused}"

    rows = [(str(level[0]), f"{level[1]:.0%}", *(cell(level, name) for name in names)) for level in levels]
    return _table(("GPUs a host", "load", *(f"p99 ms, {name}" for name in names)), rows)


def redis_table(shared: Sequence[Shared]) -> str:
    beat, loop = "slowest beat in 100, ms", "of each gateway's event loop"
    head = ("gateways", "Redis busy", beat, "MB/s it sends", loop, "a promotion, s", "")
    rows = [
        (
            f"{one.gateways:,}",
            f"{one.busy:.1%}",
            f"{one.beat_s * 1e3:.1f}" if one.beat_s < math.inf else "never",
            f"{one.bytes_s / 1e6:,.1f}",
            f"{one.census_s:.1%}",
            f"{one.promotion_s:.1f}" if one.promotion_s < math.inf else "does not end",
            "holds" if one.holds else "**breaks**",
        )
        for one in shared
    ]
    return _table(head, rows)


def first_list(measured: Measured, kind: Kind, shared: Sequence[Shared]) -> str:
    """What breaks first, in numbers."""
    fast, heavy = (bounds(measured, accelerator, kind) for accelerator in (FAST, HEAVY))
    costs = costs_of(measured, FAST)
    cores = fast.parts["GPUs"] * (costs.loop_s + costs.decode_s)
    held = max((one.gateways for one in shared if one.holds), default=0)
    broke = min((one.gateways for one in shared if not one.holds), default=0)
    lines = [
        f"{_sentence(FAST, fast.first, fast.rate / fast.parts['GPUs'])} All that they can do would take {cores:,.0f} "
        f"cores a host, and {fast.parts['GPUs'] * costs.sent_bytes * 8 / 1e9:,.0f} Gbit/s of photos.",
        _sentence(HEAVY, heavy.first, heavy.rate / heavy.parts["GPUs"]),
        f"One Redis holds {held:,} gateways"
        + (f" and not {broke:,}" if broke else "")
        + f": a gateway waits {EXCHANGE_S} s "
        "for an answer, and what all gateways read about all others grows with the square of their number.",
    ]
    return "\n".join(f"{i}. {line}" for i, line in enumerate(lines, start=1))


def validation_table(measured: Measured) -> str:
    measured_ones = ("p50 ms, measured", "p99 ms, measured", "within 1 s, measured")
    pairs = [name for one in measured_ones for name in (one, "simulated")]
    head = ("load", "requests/s", *pairs, "generator late, ms")
    rows = [
        (
            f"{one.share:.0%}",
            f"{one.rate:.0f}",
            f"{one.measured_p50_s * 1e3:.0f}",
            f"{one.simulated_p50_s * 1e3:.0f} ({one.simulated_p50_s / one.measured_p50_s - 1:+.0%})",
            f"{one.measured_p99_s * 1e3:.0f}",
            f"{one.simulated_p99_s * 1e3:.0f} ({one.simulated_p99_s / one.measured_p99_s - 1:+.0%})",
            f"{one.measured_goodput:.1%}",
            f"{one.simulated_goodput:.1%}",
            f"{one.late_p99_s * 1e3:.0f}",
        )
        for one in measured.levels
    ]
    return _table(head, rows)


def _sentence(accelerator: Accelerator, first: str, share: float) -> str:
    name = accelerator.name[0].upper() + accelerator.name[1:]
    if first == "GPUs":
        return f"{name}: the GPUs are what gives way first, as they should."
    return f"{name}: the {first} give way first, at {share:.1%} of what the GPUs can do."


def _table(head: Sequence[str], rows: Rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us"
