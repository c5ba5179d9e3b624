"""What a command takes: wall time, CPU time and peak memory of it and its children, in alternating runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop.daemons import with_hosts

_LAUNCHER = Path(__file__).with_name("launcher.py")


class BenchmarkError(Exception):
    """A contender failed, or what it wrote is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. `peak_rss_bytes` is that of the largest process; `depth` counts round trips, where known."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    depth: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """`command` makes the command line for an empty output directory.

    `hosts_file`: which addresses the names stand for, None where none is needed. `check` looks at what the
    first run wrote; raises `BenchmarkError`. `prepare` is called before each run, untimed. `watch` begins to
    count something on the servers' side.
    """

    name: str
    command: Callable[[Path], Sequence[str]]
    env: Mapping[str, str]
    hosts_file: Path | None = None
    check: Callable[[Path], None] | None = None
    prepare: Callable[[Path], None] | None = None
    watch: Callable[[], Callable[[], int]] | None = None
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All runs of a contender; figures are medians."""

    name: str
    runs: list[Run] = field(default_factory=list)

    @property
    def wall_s(self) -> float:
        return statistics.median(run.wall_s for run in self.runs)

    @property
    def cpu_s(self) -> float:
        return statistics.median(run.cpu_s for run in self.runs)

    @property
    def peak_rss_bytes(self) -> int:
        return max(run.peak_rss_bytes for run in self.runs)

    @property
    def depth(self) -> int | None:
        depths = [run.depth for run in self.runs if run.depth is not None]
        return round(statistics.median(depths)) if depths else None


class Bench:
    """Measures contenders; their output goes to fresh directories below `directory`, gone after each run."""

    def __init__(self, directory: Path, *, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._say = say

    def compare(
        self, contenders: Sequence[Contender], runs: int, *, between: Callable[[], None] | None = None
    ) -> dict[str, Measured]:
        """A, B, A, B ...: `runs` times each; the first run's output is checked.

        `between` is called once a turn: what it measures sees the machine as the contenders do.
        """
        measured = {each.name: Measured(name=each.name) for each in contenders}
        for turn in range(runs):
            for each in contenders:
                run = self.run(each, checks=turn == 0)
                measured[each.name].runs.append(run)
                self._say(
                    f"  {each.name}: {run.wall_s:.2f} s, CPU {run.cpu_s:.2f} s,"
                    f" {run.peak_rss_bytes / 1e6:.0f} MB"
                )
            if between is not None:
                between()
        return measured

    def run(self, contender: Contender, *, checks: bool = False) -> Run:
        """One run; raises `BenchmarkError` when it fails."""
        with self.fresh() as scratch:
            output = scratch / "output"
            output.mkdir()
            if contender.prepare:
                contender.prepare(output)
            os.sync()
            count = contender.watch() if contender.watch else None
            run = self._measure(contender, output, scratch)
            if checks and contender.check:
                contender.check(output)
            if count is None:
                return run
            return Run(wall_s=run.wall_s, cpu_s=run.cpu_s, peak_rss_bytes=run.peak_rss_bytes, depth=count())

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """A directory on the file system that all contenders write to; gone at the end."""
        self._directory.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="run-", dir=self._directory))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _measure(self, contender: Contender, output: Path, scratch: Path) -> Run:
        result, stderr = scratch / "result.json", scratch / "stderr"
        launch = [sys.executable, "-I", "-S", str(_LAUNCHER), str(result), str(stderr)]
        command = [*launch, *contender.command(output)]
        process = subprocess.Popen(
            with_hosts(contender.hosts_file, command) if contender.hosts_file else command,
            env={**contender.env, "TMPDIR": str(scratch)},
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(contender.timeout_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        taken = json.loads(result.read_text()) if result.exists() else {"exit_code": process.returncode}
        if taken.pop("exit_code") != 0 or process.returncode != 0:
            end = stderr.read_text(errors="replace")[-2000:] if stderr.exists() else ""
            raise BenchmarkError(f"{contender.name} failed:\n{end}")
        return Run(**taken)
