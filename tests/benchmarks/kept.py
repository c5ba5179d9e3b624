"""`python -m tests.benchmarks.kept`: what a CI cache had better keep, compressed blobs or the inflated tar.

Saving is `tar | zstd -T0` and restoring `zstd -d | tar`, as the caches of CI services do it, without their
network. Prints a table of medians.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.standin import machine_image
from tests.standin.server import StandIn

_ROOT = Path(__file__).resolve().parents[2]
_RUNS = 3
_SHAPE = machine_image.Shape(total_tar_bytes=1024 * machine_image.MIB, layers=8, largest_share=0.4)


def main() -> int:
    image = machine_image.build(_ROOT / ".bench" / "kept", _SHAPE)
    with StandIn.threaded() as standin, tempfile.TemporaryDirectory(dir=_ROOT / ".bench") as directory:
        standin.add("bench/kept", "1", image)
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), **standin.environment()}
        kept = _Kept(Path(directory), f"{standin.ecr_host}/bench/kept:1", environment)
        kept.pull("--cache-dir", "cache")
        kept.pull("--cache-dir", "cache", "--keep-compressed", "-o", "compressed.tar")
        rows = [
            kept.row("cache", kept.warm),
            kept.row("compressed.tar", lambda: None),
            kept.row("image.tar", lambda: None),
        ]
    tar_bytes = sum(layer.tar_size_bytes for layer in image.layers)
    stored_bytes = sum(layer.size_bytes for layer in image.layers)
    print(
        f"{len(image.layers)} layers, {stored_bytes / 1e6:.0f} MB stored, {tar_bytes / 1e6:.0f} MB inflated"
    )
    print("| kept | on disk | saved as | saving | restoring | to the tar again | restoring in all |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


class _Kept:
    def __init__(self, directory: Path, reference: str, environment: dict[str, str]) -> None:
        self._directory = directory
        self._reference = reference
        self._environment = environment

    def pull(self, *options: str) -> None:
        command = [sys.executable, "-m", "ecr_async_pull", self._reference, "-o", "image.tar", "-q"]
        subprocess.run([*command, *options], cwd=self._directory, env=self._environment, check=True)

    def warm(self) -> None:
        self.pull("--cache-dir", "cache")

    def row(self, name: str, again: Callable[[], None]) -> str:
        path, saved = self._directory / name, self._directory / f"{name}.saved"
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        size_bytes = sum(one.stat().st_size for one in files)
        times: list[tuple[float, float, float]] = []
        for _ in range(_RUNS):
            saving_s = _seconds(lambda: self._shell(f"tar -c {name} | zstd -q -f -T0 -o {saved.name}"))
            if path.is_dir():
                shutil.rmtree(path)
                (self._directory / "image.tar").unlink()
            else:
                path.unlink()
            restoring_s = _seconds(lambda: self._shell(f"zstd -q -d -c {saved.name} | tar -x"))
            times.append((saving_s, restoring_s, _seconds(again)))
        saving_s, restoring_s, again_s = (statistics.median(column) for column in zip(*times, strict=True))
        return (
            f"| {name} | {size_bytes / 1e6:.0f} MB | {saved.stat().st_size / 1e6:.0f} MB | {saving_s:.1f} s"
            f" | {restoring_s:.1f} s | {again_s:.1f} s | {restoring_s + again_s:.1f} s |"
        )

    def _shell(self, command: str) -> None:
        subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=self._directory, check=True)


def _seconds(call: Callable[[], object]) -> float:
    began_s = time.monotonic()
    call()
    return time.monotonic() - began_s


if __name__ == "__main__":
    sys.exit(main())
