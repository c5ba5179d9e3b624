"""`make bench`: how fast, against whom, on this machine, with servers that nobody here wrote."""

from __future__ import annotations

import argparse
import contextlib
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.interop.servers import open_rig

from . import images, results
from .contenders import Contenders
from .links import open_links
from .measure import Bench, BenchmarkError
from .scenarios import SCENARIOS, Scale, Session

_ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 also where a target is missed: the table says so."""
    options = _parser().parse_args(arguments)
    runs = options.runs or (2 if options.quick else 3)
    scale = Scale.quick(runs) if options.quick else Scale.full(runs)
    output: Path = options.output
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    try:
        with open_session(_ROOT / ".bench", scale, skopeo=options.skopeo, crane=options.crane) as session:
            for name in options.scenario:
                _run(session, name)
                results.write(output, rows=session.rows, measured=session.measured, notes=session.notes)
    except (BenchmarkError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except pytest.skip.Exception as missing:
        sys.stderr.write(f"{missing.msg}\n")
        return 1
    sys.stdout.write(output.read_text())
    sys.stderr.write(f"written to {output} and {output.with_suffix('.json')}\n")
    return 0


@contextlib.contextmanager
def open_session(
    directory: Path, scale: Scale, *, skopeo: Path | None = None, crane: Path | None = None
) -> Iterator[Session]:
    """The servers, on loopback, until the end; images stay in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=directory))
    try:
        (work / "rig").mkdir()
        (work / "links").mkdir()
        with open_rig(work / "rig") as rig, open_links(rig, work / "links") as links:
            contenders = Contenders(rig, links, work / "home", skopeo=skopeo, crane=crane)
            contenders.warm_up(contenders.publish(images.tiny_layers(2), "bench/warm-up"))
            yield Session(
                contenders=contenders,
                bench=Bench(work / "runs", say=_say),
                scale=scale,
                images=directory / "images",
                say=_say,
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(session: Session, name: str) -> None:
    began_s = time.monotonic()
    _say(f"{name}. {(SCENARIOS[name].__doc__ or '').strip()}")
    before = len(session.rows)
    SCENARIOS[name](session)
    _say(results.table(session.rows[before:]) + f"({time.monotonic() - began_s:.0f} s)\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--scenario", type=_scenarios, default=list(SCENARIOS), metavar="A,B,...", help="which (all)"
    )
    parser.add_argument("--quick", action="store_true", help="smaller images, fewer runs")
    parser.add_argument("--runs", type=int, metavar="N", help="of each contender (3, quick 2)")
    parser.add_argument("--skopeo", type=Path, metavar="PATH", help="another skopeo than Debian's")
    parser.add_argument("--crane", type=Path, metavar="PATH", help="measure this crane too")
    parser.add_argument(
        "--output", type=Path, default=_ROOT / ".bench" / "results.md", metavar="FILE", help="where it goes"
    )
    return parser


def _scenarios(text: str) -> list[str]:
    names = [each.strip().upper() for each in text.split(",")]
    if unknown := [each for each in names if each not in SCENARIOS]:
        raise argparse.ArgumentTypeError(
            f"no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}"
        )
    return names


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
