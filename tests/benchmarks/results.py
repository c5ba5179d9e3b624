"""The table: what was measured, against whom, and whether the target was met."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .measure import Measured

_HEADINGS = (
    "",
    "what",
    "s",
    "CPU s",
    "MB",
    "against",
    "s",
    "CPU s",
    "MB",
    "ratio",
    "target",
    "",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison. `is_met` None: told for information."""

    scenario: str
    what: str
    wall_s: float
    cpu_s: float | None = None
    peak_rss_bytes: int | None = None
    against: str = ""
    against_wall_s: float | None = None
    against_cpu_s: float | None = None
    against_peak_rss_bytes: int | None = None
    ratio: str = ""
    target: str = ""
    is_met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        verdict = {None: "", True: "OK", False: "MISS"}[self.is_met]
        return (
            self.scenario,
            self.what,
            _seconds(self.wall_s),
            _seconds(self.cpu_s),
            _megabytes(self.peak_rss_bytes),
            self.against,
            _seconds(self.against_wall_s),
            _seconds(self.against_cpu_s),
            _megabytes(self.against_peak_rss_bytes),
            self.ratio,
            self.target,
            verdict,
        )


def faster(scenario: str, ours: Measured, rival: Measured, least: float | None = None) -> Row:
    """How many times faster than a rival; the target is at least this many times."""
    ratio = rival.wall_s / ours.wall_s
    return _compared(
        scenario,
        ours,
        rival,
        ratio=f"{ratio:.2f}x faster",
        target=f">= {least}x" if least else "",
        is_met=ratio >= least if least else None,
    )


def slower(scenario: str, ours: Measured, rival: Measured, most: float | None = None) -> Row:
    """The multiple of another's time; the target is at most this."""
    ratio = ours.wall_s / rival.wall_s
    return _compared(
        scenario,
        ours,
        rival,
        ratio=f"{ratio:.2f} of its time",
        target=f"<= {most}" if most else "",
        is_met=ratio <= most if most else None,
    )


def above_floor(scenario: str, ours: Measured, name: str, floor_s: float, most: float | None = None) -> Row:
    """The multiple of the floor."""
    ratio = ours.wall_s / floor_s
    return Row(
        scenario=scenario,
        what=ours.name,
        wall_s=ours.wall_s,
        cpu_s=ours.cpu_s,
        peak_rss_bytes=ours.peak_rss_bytes,
        against=name,
        against_wall_s=floor_s,
        ratio=f"{ratio:.2f} of the floor",
        target=f"<= {most}" if most else "",
        is_met=ratio <= most if most else None,
    )


def within(scenario: str, ours: Measured, what: str, *, text: str, target: str, is_met: bool | None) -> Row:
    """A figure of ours against a bound of its own."""
    return Row(
        scenario=scenario,
        what=what,
        wall_s=ours.wall_s,
        cpu_s=ours.cpu_s,
        peak_rss_bytes=ours.peak_rss_bytes,
        ratio=text,
        target=target,
        is_met=is_met,
    )


def _compared(
    scenario: str, ours: Measured, rival: Measured, *, ratio: str, target: str, is_met: bool | None
) -> Row:
    return Row(
        scenario=scenario,
        what=ours.name,
        wall_s=ours.wall_s,
        cpu_s=ours.cpu_s,
        peak_rss_bytes=ours.peak_rss_bytes,
        against=rival.name,
        against_wall_s=rival.wall_s,
        against_cpu_s=rival.cpu_s,
        against_peak_rss_bytes=rival.peak_rss_bytes,
        ratio=ratio,
        target=target,
        is_met=is_met,
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown, in columns that line up."""
    cells = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(3, *(len(line[column]) for line in cells)) for column in range(len(_HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Where it was measured, in a line."""
    load = os.getloadavg()[0]
    return (
        f"{time.strftime('%Y-%m-%d %H:%M:%S')}, {len(os.sched_getaffinity(0))} cores, {platform.machine()},"
        f" Linux {platform.release()}, Python {platform.python_version()}, load {load:.1f}"
    )


def write(
    path: Path, *, rows: Sequence[Row], measured: Sequence[tuple[str, Measured]], notes: Sequence[str]
) -> None:
    """The table as `path`, and everything behind it as JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([f"{machine()}\n", table(rows), *(f"- {note}" for note in notes), ""]))
    document = {
        "machine": machine(),
        "notes": list(notes),
        "rows": [asdict(row) for row in rows],
        "runs": [
            {"scenario": scenario, "name": each.name, "runs": [asdict(run) for run in each.runs]}
            for scenario, each in measured
        ],
    }
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _megabytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.0f}"
