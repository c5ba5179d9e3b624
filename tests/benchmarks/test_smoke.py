"""The benchmark itself still runs: two scenarios, tiny images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from . import results
from .__main__ import open_session
from .links import ROUND_TRIP_S, depth
from .measure import Bench, BenchmarkError, Contender
from .scenarios import SCENARIOS, Scale


@pytest.mark.interop
@pytest.mark.slow
def test_scenarios_measure_all_contenders_and_write_the_table(tmp_path: Path) -> None:
    with open_session(tmp_path / "bench", Scale.smoke()) as session:
        for name in ("A", "H"):
            SCENARIOS[name](session)
        results.write(
            tmp_path / "results.md", rows=session.rows, measured=session.measured, notes=session.notes
        )
    document = json.loads((tmp_path / "results.json").read_text())
    assert {run["name"] for run in document["runs"]} == {
        "ecr-async-pull",
        "skopeo docker-archive",
        "shell: curl, sha256sum, igzip, layers only",
        "--version",
        "--help",
        "up-to-date pull",
    }
    assert all(run["wall_s"] > 0 for each in document["runs"] for run in each["runs"])
    judged = [row for row in document["rows"] if row["target"]]
    assert len(judged) == 7
    assert all(row["is_met"] is not None for row in judged)
    assert "of the floor" in (tmp_path / "results.md").read_text()
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["images"]


def test_memory_is_the_contenders_alone(tmp_path: Path) -> None:
    ballast = bytearray(150_000_000)
    run = Bench(tmp_path, say=print).run(
        Contender(name="true", command=lambda _: ["/bin/true"], env={"PATH": "/usr/bin"})
    )
    assert run.peak_rss_bytes < 30_000_000
    assert ballast[-1] == 0


def test_a_contender_that_fails_ends_the_benchmark_with_what_it_said(tmp_path: Path) -> None:
    broken = Contender(
        name="broken", command=lambda _: ["sh", "-c", "echo why >&2; exit 3"], env={"PATH": "/bin"}
    )
    with pytest.raises(BenchmarkError, match="broken failed:\nwhy"):
        Bench(tmp_path, say=print).run(broken)


def test_requests_at_the_same_time_are_one_round_trip_deep() -> None:
    trip = ROUND_TRIP_S
    assert depth([(0.0, 0.001), (0.002, 0.003), (0.01, 0.02)]) == 1
    assert depth([(0.0, 0.001), (trip + 0.001, trip + 0.002), (trip + 0.003, trip + 0.004)]) == 2
