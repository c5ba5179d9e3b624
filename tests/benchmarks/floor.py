"""What this machine can't beat: its link, and its cores inflating, hashing and writing, no Python between."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.interop.daemons import DEBIAN_PATH, program

from .contenders import Contenders, Published
from .measure import Bench, BenchmarkError

_PIECE_BYTES = 16 * 1024 * 1024
_CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Seconds. `link_s`: the stored bytes to nowhere, over TLS. `work_s`: inflate, both sha256, one write, on
    all cores; `work_cpu_s`: the same work's CPU time. `stored_s`: the part of it that needs no inflating.
    """

    link_s: float
    work_s: float
    work_cpu_s: float
    stored_s: float


class Floor:
    """Of one image: medians of the samples taken so far."""

    def __init__(self, bench: Bench, contenders: Contenders, published: Published) -> None:
        self._bench = bench
        self._contenders = contenders
        self._published = published
        self._samples: list[Sample] = []

    def sample(self) -> None:
        """Measure once."""
        work_s, work_cpu_s, stored_s = _work(self._bench, self._contenders, self._published)
        link_s = _link_s(self._contenders, self._published)
        sample = Sample(link_s=link_s, work_s=work_s, work_cpu_s=work_cpu_s, stored_s=stored_s)
        self._samples.append(sample)

    @property
    def seconds(self) -> float:
        return max(self._median("link_s"), self._median("work_s"))

    @property
    def stored_seconds(self) -> float:
        """For what is kept as it is stored: fetched, hashed, written."""
        return max(self._median("link_s"), self._median("stored_s"))

    def note(self) -> str:
        """What it is made of."""
        published = self._published
        work_s, cpu_s, stored_s = map(self._median, ("work_s", "work_cpu_s", "stored_s"))
        return (
            f"floor of {published.repository}, {published.stored_bytes / 1e6:.0f} MB stored,"
            f" {published.tar_bytes / 1e6:.0f} MB inflated: link {self._median('link_s'):.2f} s; inflate, two"
            f" sha256 and one write on all cores {work_s:.2f} s ({cpu_s:.2f} s of CPU); without inflating"
            f" {stored_s:.2f} s"
        )

    def _median(self, name: str) -> float:
        return statistics.median(float(getattr(sample, name)) for sample in self._samples)


def _link_s(contenders: Contenders, published: Published) -> float:
    """As many curls as there are cores, several connections each, equal shares of the bytes."""
    pieces = [
        (contenders.storage_url(layer.digest), at, min(at + _PIECE_BYTES, layer.size_bytes) - 1)
        for layer in published.image.layers
        for at in range(0, layer.size_bytes, _PIECE_BYTES)
    ]
    options = f'output = /dev/null\nsilent\nfail\ncacert = "{contenders.rig.ca_file}"\n'
    cores = _cores()
    configs = []
    for core in range(cores):
        config = published.directory / f"curl-{core}"
        stanzas = [
            f'url = "{url}"\nrange = {first}-{last}\n{options}' for url, first, last in pieces[core::cores]
        ]
        config.write_text("next\n".join(stanzas))
        if stanzas:
            configs.append(config)
    curl = [program("curl", package="curl"), "--parallel", "--parallel-immediate"]
    os.sync()

    def fetch(config: Path) -> None:
        command = [*curl, "--parallel-max", str(_CONNECTIONS), "--config", str(config)]
        result = contenders.rig.run(command, env={"PATH": DEBIAN_PATH})
        if result.returncode != 0:
            raise BenchmarkError(f"curl failed: {result.stderr}")

    began_s = time.monotonic()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(fetch, configs))
    return time.monotonic() - began_s


def _work(bench: Bench, contenders: Contenders, published: Published) -> tuple[float, float, float]:
    """(wall of all, CPU of all, wall of hashing and writing what is stored)."""
    layers = sorted(published.image.layers, key=lambda layer: -layer.size_bytes)
    igzip = [program("igzip", package="isal"), "--decompress", "--stdout"]
    digest = [program("openssl", package="openssl"), "dgst", "-sha256"]
    copy = [program("cp", package="coreutils"), "--reflink=never"]
    with bench.fresh() as scratch:
        stored = [contenders.rig.blob_path(layer.digest) for layer in layers]
        inflated = [scratch / layer.digest[7:] for layer in layers]
        os.sync()
        unpack = [
            _Job(command=igzip, source=source, target=target, after=[*digest, str(target)])
            for source, target in zip(stored, inflated, strict=True)
        ]
        hashing = [_Job(command=[*digest, str(source)]) for source in stored]
        before = _children_cpu_s()
        work_s = _all(unpack + hashing)
        work_cpu_s = _children_cpu_s() - before
        for path in inflated:
            path.unlink()
        os.sync()
        stored_s = _all(
            [
                _Job(command=[*copy, str(source), str(target)])
                for source, target in zip(stored, inflated, strict=True)
            ]
            + hashing
        )
    return work_s, work_cpu_s, stored_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    command: Sequence[str]
    source: Path = Path(os.devnull)
    target: Path = Path(os.devnull)
    after: Sequence[str] | None = None

    def run(self) -> None:
        with self.source.open("rb") as stdin, self.target.open("wb") as stdout:
            subprocess.run(self.command, check=True, stdin=stdin, stdout=stdout)
        if self.after is not None:
            subprocess.run(self.after, check=True, stdout=subprocess.DEVNULL)


def _all(jobs: Sequence[_Job]) -> float:
    """Seconds until all jobs have run, as many at once as there are cores."""
    began_s = time.monotonic()
    with ThreadPoolExecutor(_cores()) as pool:
        list(pool.map(_Job.run, jobs))
    return time.monotonic() - began_s


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
