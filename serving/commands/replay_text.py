"""What `tidegate replay` prints for people."""

from __future__ import annotations

from typing import Any, Final

from serving.commands.text import Row, table

SHOWN: Final = 10  # requests of a list; --json has a hundred


def report_text(report: Row) -> str:
    """A report: how many agree, which do not, how fast both are, and which requests were slower."""
    before, candidate = report["before"], report["candidate"]
    names = [f"{report['model']}/{side['version']}" for side in (before, candidate)]
    agree = report["requests"] - report["differ"]
    lines = [
        f"{names[1]} against {names[0]}, on {report['requests']} captured requests: {agree} answers are the same, "
        f"agreement {report['agreement']:.4f}."
    ]
    if report["unreadable"]:
        lines.append(f"{report['unreadable']} more could not be read.")
    if report["differing"]:
        rows = [["AGREEMENT", "TIME", "REQUEST", names[0], names[1]]]
        rows += [
            [f"{one['agreement']:.3f}", one["time"], one["request_id"], one["before"], one["candidate"]]
            for one in report["differing"][:SHOWN]
        ]
        lines += ["", table(rows), *_more(report["differ"])]
    sides = [_side(report, side) for side in (before, candidate)]
    lines += ["", table([["VERSION", "MEDIAN", "P99", "FAILED"], *sides])]
    if report["slowdown"] is not None:
        lines.append(f"{report['slowdown']:.2f} times as long; p99 {report['slowdown_p99']:.2f} times.")
    if report["slower"]:
        rows = [["TIMES", "TIME", "REQUEST", names[0], names[1]]]
        rows += [
            [f"{one['ratio']:.2f}", one["time"], one["request_id"], _ms(one["before_s"]), _ms(one["candidate_s"])]
            for one in report["slower"][:SHOWN]
        ]
        lines += ["", table(rows), *_more(report["slower_count"])]
    return "\n".join([*lines, *report["unmet"]])


def _side(report: Row, side: Row) -> list[str]:
    speed = side["speed"]
    times = [_ms(speed["median_s"]), _ms(speed["p99_s"])] if speed else ["-", "-"]
    return [f"{report['model']}/{side['version']}", *times, str(side["failed"])]


def _more(count: int) -> list[str]:
    return [f"and {count - SHOWN} more"] if count > SHOWN else []


def _ms(seconds: Any) -> str:
    return f"{1000 * seconds:.2f} ms"
