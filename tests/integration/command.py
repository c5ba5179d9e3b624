"""The command line in a process of its own, with the stand-in as its AWS and as the witness."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.standin.images import BuiltImage, BuiltLayer, ImageBuilder, make_layer
from tests.standin.proof import prove
from tests.standin.server import StandIn

PATIENCE_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a finished child took: processor time in seconds."""

    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    standin: StandIn
    environment: Mapping[str, str]
    cwd: Path

    def reference(self, repository: str, tag: str = "1.0") -> str:
        return f"{self.standin.ecr_host}/{repository}:{tag}"

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._words(arguments),
            env={**self.environment, **environment},
            cwd=self.cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: object, code: int = 0, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """To the end, with this exit code."""
        result = subprocess.run(
            self._words(arguments),
            env={**self.environment, **environment},
            cwd=self.cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result

    def usage(self, *arguments: object) -> Usage:
        """Run it and see what it took."""
        with self.start(*arguments) as process:
            _, status, taken = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0, process.stderr and process.stderr.read()
        return Usage(cpu_s=taken.ru_utime + taken.ru_stime)

    def _words(self, arguments: Iterable[object]) -> list[str]:
        return [sys.executable, "-m", "ecr_async_pull", *map(str, arguments)]

    # -- what the stand-in saw ------------------------------------------------------------------------

    def manifest_requests(self) -> list[str]:
        return [
            each.path
            for each in self.standin.requests
            if each.server == "registry" and "/manifests/" in each.path
        ]

    def blob_requests(self) -> list[str]:
        """Of the registry, each leading to a redirect, and of the storage host."""
        return [
            each.path
            for each in self.standin.requests
            if each.server == "storage" or (each.server == "registry" and "/blobs/" in each.path)
        ]

    def layer_bytes(self, images: Iterable[BuiltImage]) -> int:
        """Bytes of these images' layers that were sent, however often."""
        digests = {layer.digest for image in images for layer in image.layers}
        return sum(
            each.bytes_sent for each in self.standin.requests if each.is_blob_body and each.digest in digests
        )


def random_layer(seed: int, size_bytes: int, *, oci: bool = False) -> BuiltLayer:
    """Of bytes that can't be compressed: as large stored as inflated."""
    return make_layer([(f"file-{seed}", random.Random(seed).randbytes(size_bytes))], oci=oci, level=1)


def family(count: int, *, base_bytes: int = 1_500_000, own_bytes: int = 120_000) -> dict[str, BuiltImage]:
    """Images that share two base layers, each with a layer of its own, by repository."""
    base = [random_layer(1, base_bytes), random_layer(2, base_bytes // 4)]
    return {
        f"team/app{number}": ImageBuilder()
        .add(*base, random_layer(100 + number, own_bytes + number))
        .config({"config": {"Env": [f"NUMBER={number}"]}})
        .build()
        for number in range(count)
    }


def distinct_blob_bytes(images: Iterable[BuiltImage]) -> int:
    """Layers and configs, each once."""
    sizes: dict[str, int] = {}
    for image in images:
        sizes[image.config_digest] = len(image.config_raw)
        sizes |= {layer.digest: layer.size_bytes for layer in image.layers}
    return sum(sizes.values())


def serve(standin: StandIn, images: Mapping[str, BuiltImage], tag: str = "1.0") -> None:
    for repository, image in images.items():
        standin.add(repository, tag, image)


def assert_is(archive: Path, image: BuiltImage, name: str) -> None:
    """The docker-archive is this image under this name, recomputed without the product."""
    for _ in prove(archive, image, name=name):
        pass
