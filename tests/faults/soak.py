"""`python -m tests.faults.soak --kills 50`: the command line, killed again and again at random moments.

The stand-in's access log is the witness: it tells when to kill, and what all the lives together cost.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.command import distinct_blob_bytes, family, random_layer
from tests.pulling import tree_digest
from tests.standin import faults, machine_image
from tests.standin.images import BuiltImage, ImageBuilder
from tests.standin.server import StandIn

MIB = 1 << 20
_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_S = 120.0
_LOOK_EVERY_S = 0.001
_STARTING_S = 0.6
_ENDING_S = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`options` of the pull; `is_directory`: one OCI directory is written, else one archive an image."""

    options: tuple[str, ...] = ()
    is_cached: bool = False
    is_list: bool = False
    is_directory: bool = False


SCENARIOS: dict[str, Scenario] = {
    "docker-archive": Scenario(),
    "docker-archive, cached": Scenario(is_cached=True),
    "keep-compressed": Scenario(options=("--keep-compressed",)),
    "keep-compressed, cached": Scenario(options=("--keep-compressed",), is_cached=True),
    "oci": Scenario(options=("--format", "oci"), is_directory=True),
    "oci-archive": Scenario(options=("--format", "oci-archive")),
    "list": Scenario(is_list=True),
    "list, keep-compressed": Scenario(options=("--keep-compressed",), is_list=True),
    "list, cached": Scenario(is_list=True, is_cached=True),
}


@dataclass(slots=True, kw_only=True)
class Result:
    """`served_bytes` over all lives of all rounds, of `needed_bytes`; `wrong`: what came out otherwise."""

    kills: int = 0
    rounds: int = 0
    most_kills_in_a_row: int = 0
    served_bytes: int = 0
    needed_bytes: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return self.served_bytes / max(1, self.needed_bytes)


class Soak:
    """One scenario in one directory: pulls that are killed until `kills` were, each to its good end."""

    def __init__(
        self,
        standin: StandIn,
        images: Mapping[str, BuiltImage],
        scenario: Scenario,
        directory: Path,
        *,
        seed: int,
        connection_bytes_s: float,
    ) -> None:
        self._standin = standin
        self._scenario = scenario
        self._random = random.Random(seed)
        self._directory = directory
        self._size_bytes = distinct_blob_bytes(images.values())
        self._rate = connection_bytes_s
        directory.mkdir(parents=True)
        (directory / "home").mkdir()
        lines = []
        for repository, image in images.items():
            standin.add(repository, "1.0", image)
            reference = f"{standin.ecr_host}/{repository}:1.0"
            own = "" if scenario.is_directory else f" output={repository.rpartition('/')[2]}.tar"
            lines.append(f"{reference}{own}\n")
        (directory / "images.txt").write_text("".join(lines))
        (directory / "expected").mkdir()
        (directory / "out").mkdir()

    def run(self, kills: int) -> Result:
        result = Result()
        self._standin.faults.clear()
        expected = self._directory / "expected"
        code, told = self._to_the_end(self._start(expected))
        if code != 0:
            result.wrong.append(f"undisturbed: exit code {code}: {told}")
            return result
        right = tree_digest(expected)
        shutil.rmtree(self._directory / "cache", ignore_errors=True)
        self._standin.faults.add(faults.Slow(self._rate), server="storage")
        while result.kills < kills and not result.wrong:
            self._standin.log.clear()
            shutil.rmtree(self._directory / "cache", ignore_errors=True)
            for left in (self._directory / "out").iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            in_a_row = self._round(kills - result.kills, result)
            result.kills += in_a_row
            result.rounds += 1
            result.most_kills_in_a_row = max(result.most_kills_in_a_row, in_a_row)
            result.needed_bytes += self._size_bytes
            result.served_bytes += self._standin.log.blob_bytes
            out = self._directory / "out"
            if not result.wrong and tree_digest(out) != right:
                result.wrong.append(f"round {result.rounds}: other bytes than undisturbed")
            if {path.name for path in out.iterdir()} != {path.name for path in expected.iterdir()}:
                result.wrong.append(f"round {result.rounds}: left {sorted(os.listdir(out))}")
        return result

    def _round(self, kills: int, result: Result) -> int:
        """Kill up to so often, then let it end; returns how often it was killed."""
        mean_bytes = self._size_bytes / kills
        dying: list[subprocess.Popen[str]] = []
        for done in range(kills):
            process = self._start(self._directory / "out")
            is_killed = self._kill_at_random(process, mean_bytes)
            if not is_killed:
                code, told = self._to_the_end(process)
                if code != 0:
                    result.wrong.append(f"exit code {code} after {done} kills: {told}")
                self._bury(dying)
                return done
            dying.append(process)
            if self._random.random() < 0.7:  # else the next one starts while this one is dying
                self._bury(dying)
        code, told = self._to_the_end(self._start(self._directory / "out"))
        self._bury(dying)
        if code != 0:
            result.wrong.append(f"exit code {code} after {kills} kills: {told}")
        return kills

    def _kill_at_random(self, process: subprocess.Popen[str], mean_bytes: float) -> bool:
        """False where it ended before."""
        log, draw = self._standin.log, self._random
        began_bytes, began_s = log.blob_bytes, time.monotonic()
        by_time = draw.random() < 0.25
        limit_s = draw.uniform(0, _STARTING_S) if by_time else _PATIENCE_S
        limit_bytes = draw.uniform(0, 2 * mean_bytes)
        ending_s = draw.uniform(0, _ENDING_S)
        all_there_s: float | None = None
        while process.poll() is None:
            now_s = time.monotonic()
            if now_s - began_s >= limit_s or log.blob_bytes - began_bytes >= limit_bytes:
                break
            # Near the end no more is to come than what is under way: kill while it packs and renames.
            if all_there_s is None and log.distinct_blob_bytes >= self._size_bytes:
                all_there_s = now_s
            if all_there_s is not None and now_s - max(all_there_s, began_s + 0.3) >= ending_s:
                break
            time.sleep(_LOOK_EVERY_S)
        process.kill()
        return process.poll() != 0 if process.returncode is not None else True

    def _start(self, out: Path) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "ecr_async_pull", "pull", "--progress", "none"]
        words += self._scenario.options
        if self._scenario.is_cached:
            words += ["--cache-dir", str(self._directory / "cache")]
        if self._scenario.is_directory:
            words += ["-f", "../images.txt", "-o", "layout"]
        else:
            words += ["-f", "../images.txt"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        environment |= self._standin.environment() | {
            "PYTHONPATH": str(_ROOT),
            "HOME": str(self._directory / "home"),
            "XDG_STATE_HOME": str(self._directory / "home" / "state"),
            "XDG_CACHE_HOME": str(self._directory / "home" / "cache"),
        }
        return subprocess.Popen(
            words,
            cwd=out,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _to_the_end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        told, _ = process.communicate(timeout=_PATIENCE_S)
        return process.returncode, told[-400:]

    @staticmethod
    def _bury(dying: list[subprocess.Popen[str]]) -> None:
        while dying:
            dying.pop().communicate()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size-mib", type=int, default=300, help="of the image, inflated")
    parser.add_argument("--only", choices=sorted(SCENARIOS), action="append")
    parser.add_argument("--dir", type=Path, default=Path(".demo"), help="where the image is kept")
    parser.add_argument("--rate-kib", type=int, default=512, help="of each connection, a second")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # tells each connection that a kill broke
    shape = machine_image.Shape(total_tar_bytes=options.size_mib * MIB)
    single = {"soak/app": machine_image.build(options.dir / "image", shape)}
    several = machine_family(single["soak/app"], 4)
    is_right = True
    for name in options.only or SCENARIOS:
        scenario = SCENARIOS[name]
        with StandIn.threaded() as standin, tempfile.TemporaryDirectory(dir=options.dir) as directory:
            began_s = time.monotonic()
            soak = Soak(
                standin,
                several if scenario.is_list else single,
                scenario,
                Path(directory).resolve() / "soak",
                seed=options.seed,
                connection_bytes_s=options.rate_kib * 1024,
            )
            result = soak.run(options.kills)
        is_right &= not result.wrong and result.ratio <= 1.1
        print(
            f"{name:26} {result.kills} kills, {result.most_kills_in_a_row} in a row, {result.rounds} rounds,"
            f" {result.served_bytes / 1e6:,.1f} of {result.needed_bytes / 1e6:,.1f} MB ="
            f" {result.ratio:.3f}, {len(result.wrong)} wrong, {time.monotonic() - began_s:.0f} s",
            flush=True,
        )
        for line in result.wrong:
            print("  " + line, flush=True)
    return 0 if is_right else 1


def machine_family(base: BuiltImage, count: int) -> dict[str, BuiltImage]:
    """Images on top of this one, each with a layer of its own."""
    return {
        f"soak/app{number}": ImageBuilder().add(*base.layers, random_layer(900 + number, 2 * MIB)).build()
        for number in range(count)
    }


__all__ = ["SCENARIOS", "Result", "Scenario", "Soak", "family"]

if __name__ == "__main__":
    sys.exit(main())
