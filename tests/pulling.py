"""Pulls from the stand-in under ECR's own names, in this process or as a command, and proofs of what came."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ecr_async_pull.model.platform import Platform
from ecr_async_pull.model.reference import ImageReference
from ecr_async_pull.orchestrator.pull import pull
from ecr_async_pull.orchestrator.request import (
    ImageRequest,
    Outcome,
    OutputRequest,
    OutputResult,
    PullReport,
)
from ecr_async_pull.progress.events import Progress
from ecr_async_pull.settings import ArchiveFormat, ConnectionSettings, PullSettings, TransferSettings
from tests.standin.images import BuiltImage
from tests.standin.proof import ProofError, prove
from tests.standin.server import StandIn

FORMATS: dict[str, dict[str, Any]] = {
    "docker-archive": {"archive_format": ArchiveFormat.DOCKER},
    "keep-compressed": {"archive_format": ArchiveFormat.DOCKER, "keep_compressed": True},
    "docker-legacy": {"archive_format": ArchiveFormat.DOCKER_LEGACY},
    "oci-archive": {"archive_format": ArchiveFormat.OCI_ARCHIVE},
    "oci": {"archive_format": ArchiveFormat.OCI_DIRECTORY},
}
INFLATED = ("docker-archive", "docker-legacy")
EVERY_FORMAT = pytest.mark.parametrize("form", list(FORMATS))
_ROOT = Path(__file__).resolve().parents[1]
_NOT_FOR_THE_API = ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "DOCKER_CONFIG")


@dataclass(slots=True, kw_only=True)
class Site:
    """A stand-in without faults, and an empty directory to pull into."""

    standin: StandIn
    directory: Path
    tokens: Path
    home: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def add(self, image: BuiltImage, *, repository: str | None = None, tag: str | None = "1.0") -> str:
        """Serve the image under a name of its own; returns the reference."""
        name = repository or f"{self.directory.parent.name[-24:].lower()}/app{next(self._numbers)}"
        name = name.replace("_", "-").lstrip("-")
        digest = self.standin.add(name, tag, image)
        return f"{self.standin.ecr_host}/{name}" + (f":{tag}" if tag else f"@{digest}")

    def settings(self, form: str = "docker-archive", **changes: Any) -> PullSettings:
        transfer = {"attempts": 4, "idle_timeout_s": 10.0, **changes.pop("transfer", {})}
        return PullSettings(
            **{
                **FORMATS[form],
                "connection": ConnectionSettings(ca_file=self.standin.ca_file, token_cache_dir=self.tokens),
                "transfer": TransferSettings(**transfer),
                **changes,
            }
        )

    def output(
        self, *references: str, path: str = "out", platform: str | None = None, names: Any = None
    ) -> OutputRequest:
        images = tuple(
            ImageRequest(
                reference=ImageReference.parse(one),
                platform=Platform.parse(platform) if platform else None,
                names=names,
            )
            for one in references
        )
        return OutputRequest(images=images, path=self.directory / path)

    def pull_all(
        self, outputs: Sequence[OutputRequest], settings: PullSettings, progress: Progress | None = None
    ) -> PullReport:
        return asyncio.run(pull(outputs, settings, environment=os.environ, progress=progress))

    def pull(
        self, reference: str, form: str = "docker-archive", *, path: str = "out", **changes: Any
    ) -> OutputResult:
        """One image into `directory / path`; raises what went wrong."""
        report = self.pull_all([self.output(reference, path=path)], self.settings(form, **changes))
        result = report.results[0]
        if result.error is not None:
            raise result.error
        assert result.outcome is Outcome.PULLED
        return result

    def left(self) -> set[str]:
        return set(os.listdir(self.directory))

    def command_environment(self) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        own |= {"PYTHONPATH": str(_ROOT), "HOME": str(self.home)}
        return own | {
            key: value
            for key, value in self.standin.environment().items()
            if key not in _NOT_FOR_THE_API
        }  # fmt: skip

    def command(self, *arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        """The real command line, in the directory; `changes` to the environment, None removes."""
        with self.started(*arguments, **changes) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @contextlib.contextmanager
    def started(self, *arguments: str, **changes: str | None) -> Iterator[subprocess.Popen[str]]:
        environment: dict[str, str | None] = {**self.command_environment(), **changes}
        process = subprocess.Popen(
            [sys.executable, "-m", "ecr_async_pull", *arguments],
            cwd=self.directory,
            env={key: value for key, value in environment.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    """One stand-in for a module's tests."""
    with StandIn.threaded() as standin:
        yield standin


@pytest.fixture
def site(running: StandIn, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    running.faults.clear()
    running.log.clear()
    for key, value in running.environment().items():
        if key not in _NOT_FOR_THE_API:
            monkeypatch.setenv(key, value)
    directory = tmp_path / "pulled"
    directory.mkdir()
    yield Site(standin=running, directory=directory, tokens=running.directory / "tokens", home=home)
    running.faults.clear()


def prove_any(path: Path, form: str, image: BuiltImage, *, name: str) -> None:
    """Hold what was written against what was served, without any of the product's code."""
    if form in INFLATED:
        list(prove(path, image, name=name))
        return
    files = _files(path)
    for member, data in files.items():
        if member.startswith("blobs/sha256/"):
            _demand(hashlib.sha256(data).hexdigest() == member[13:], f"{member} has another digest")
    served = {image.digest: image.manifest_raw, image.config_digest: image.config_raw}
    served |= {layer.digest: layer.stored() for layer in image.layers}
    for digest, data in served.items():
        _demand(files.get(f"blobs/sha256/{digest[7:]}") == data, f"{digest} is missing")
    entries = json.loads(files["index.json"])["manifests"]
    _demand(image.digest in [entry["digest"] for entry in entries], "index.json does not list the image")
    _demand(any(name in entry["annotations"].values() for entry in entries), f"{name} is not in index.json")


def _files(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        return {
            one.relative_to(path).as_posix(): one.read_bytes() for one in path.rglob("*") if one.is_file()
        }
    with tarfile.open(path) as tar:
        return {info.name: file.read() for info in tar if info.isreg() and (file := tar.extractfile(info))}


def _demand(condition: object, message: str) -> None:
    if not condition:
        raise ProofError(message)


def tree_digest(path: Path) -> str:
    """One digest of a file, or of a directory's files by name."""
    state = hashlib.sha256()
    for one in [path] if path.is_file() else sorted(path.rglob("*")):
        if one.is_file():
            state.update(one.relative_to(path).as_posix().encode() + b"\0" + one.read_bytes())
    return state.hexdigest()
