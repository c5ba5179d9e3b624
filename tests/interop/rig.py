"""An ECR put together from parts that nobody here wrote, under ECR's real host names.

Debian's docker-registry (htpasswd `AWS:<token>`, `redirect` storage middleware) is the registry, nginx
over the same directory is the storage host, moto behind nginx is the token API. All three listen on port
443 of loopback addresses, with certificates of a CA made for the run. The names are known only inside a mount
namespace with its own /etc/hosts, in which the command line (and whoever else needs the names) runs.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.standin.images import BuiltImage

from .daemons import DEBIAN_PATH, with_hosts

ACCOUNT = "123456789012"
REGION = "us-east-1"
REGISTRY_HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
STORAGE_HOST = f"prod-{REGION}-starport-layer-bucket.s3.{REGION}.amazonaws.com"
API_HOST = f"api.ecr.{REGION}.amazonaws.com"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A line of what nginx, as storage host or in front of the token API, has answered."""

    host: str
    method: str
    path: str
    status: int
    sent_bytes: int
    connection: str
    range: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """What a test needs to fill the registry, to run the command line and to see what was served."""

    directory: Path
    tree: Path
    hosts_file: Path
    ca_file: Path
    docker_config: Path
    moto_url: str

    def reference(self, repository: str, tag: str) -> str:
        return f"{REGISTRY_HOST}/{repository}:{tag}"

    def publish(self, image: BuiltImage, repository: str, *tags: str) -> str:
        """Lay an image (index and children too) into the registry's directory; returns its digest."""
        for child in image.children:
            self.publish(child, repository)
        repository_tree = self.tree / "repositories" / repository
        for layer in image.layers:
            for url in layer.urls:
                _write(self.directory / "foreign" / urlsplit(url).path.lstrip("/"), layer.stored())
        blobs = [(layer.digest, layer.data) for layer in image.layers if layer.is_served]
        for digest, data in [
            *blobs,
            *([(image.config_digest, image.config_raw)] if image.config_raw else []),
        ]:
            self._put_blob(digest, data)
            _link(repository_tree / "_layers" / digest.replace(":", "/") / "link", digest)
        digest = self._put_blob(image.digest, image.manifest_raw)
        _link(repository_tree / "_manifests" / "revisions" / digest.replace(":", "/") / "link", digest)
        (repository_tree / "_layers").mkdir(exist_ok=True)
        for tag in tags:
            tag_tree = repository_tree / "_manifests" / "tags" / tag
            _link(tag_tree / "current" / "link", digest)
            _link(tag_tree / "index" / digest.replace(":", "/") / "link", digest)
        return digest

    def blob_path(self, digest: str) -> Path:
        hex_digits = digest.removeprefix("sha256:")
        return self.tree / "blobs" / "sha256" / hex_digits[:2] / hex_digits / "data"

    def _put_blob(self, digest: str, data: bytes | Path) -> str:
        path = self.blob_path(digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Path):
                os.link(data, path) if data.stat().st_dev == path.parent.stat().st_dev else _copy(data, path)
            else:
                path.write_bytes(data)
        return digest

    @contextlib.contextmanager
    def flipped(self, digest: str, at: int) -> Iterator[None]:
        """One bit of a stored blob is wrong for as long as this lasts."""
        path = self.blob_path(digest)
        right = path.with_name("right")
        path.rename(right)
        try:
            wrong = bytearray(right.read_bytes())
            wrong[at] ^= 1
            path.write_bytes(wrong)
            yield
        finally:
            right.replace(path)

    def environment(self, home: Path) -> dict[str, str]:
        """What a user's shell would hold: credentials and the CA, nothing of this machine's own settings."""
        return {
            "PATH": DEBIAN_PATH,
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "AWS_CA_BUNDLE": str(self.ca_file),
            "AWS_EC2_METADATA_DISABLED": "true",
            **CREDENTIALS,
        }

    def run_cli(
        self,
        *arguments: str | Path,
        cwd: Path,
        env: Mapping[str, str | None] | None = None,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """`python -m ecr_async_pull ARGUMENTS` in `cwd`; `env` adds variables, None takes them away."""
        home = cwd.parent / f"{cwd.name}-home"
        home.mkdir(exist_ok=True)
        changed = {**self.environment(home), **(env or {})}
        return self.run(
            [sys.executable, "-m", "ecr_async_pull", *map(str, arguments)],
            env={key: value for key, value in changed.items() if value is not None},
            cwd=cwd,
            timeout_s=timeout_s,
        )

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Any command where the host names are known."""
        return subprocess.run(
            with_hosts(self.hosts_file, command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    @contextlib.contextmanager
    def witnessed(self) -> Iterator[list[Served]]:
        """Fills the list, at the end, with what nginx has answered meanwhile."""
        log = self.directory / "access.log"
        start = log.stat().st_size
        seen: list[Served] = []
        yield seen
        with log.open() as lines:
            lines.seek(start)
            seen += [_parse_line(line) for line in lines]


def _parse_line(line: str) -> Served:
    before, byte_range, _agent = line.split('"')
    host, method, path, status, sent, connection = before.split()
    return Served(
        host=host,
        method=method,
        path=path,
        status=int(status),
        sent_bytes=int(sent),
        connection=connection,
        range="" if byte_range == "-" else byte_range,
    )


def _link(path: Path, digest: str) -> None:
    _write(path, digest.encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
