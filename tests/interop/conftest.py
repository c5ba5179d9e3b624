"""The rig and its consumers: one of each a run, started when a test first asks for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .consumers import Consumers, Ctr, Docker, Podman, Skopeo, Umoci, open_ctr
from .daemons import dockerd
from .rig import Rig
from .servers import open_rig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """Short, because sockets live in it (108 bytes at most), and gone at the end."""
    with tempfile.TemporaryDirectory(prefix="interop-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _sub(directory: Path, name: str) -> Path:
    path = directory / name
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def rig(directory: Path) -> Iterator[Rig]:
    with open_rig(_sub(directory, "rig")) as opened:
        yield opened


@pytest.fixture(scope="session")
def docker(directory: Path, rig: Rig) -> Iterator[Docker]:
    home = _sub(directory, "docker")
    with dockerd(home, hosts_file=rig.hosts_file, ca_file=rig.ca_file) as address:
        yield Docker(address, home)


@pytest.fixture(scope="session")
def podman(directory: Path) -> Podman:
    return Podman(_sub(directory, "podman"))


@pytest.fixture(scope="session")
def ctr(directory: Path) -> Iterator[Ctr]:
    with open_ctr(_sub(directory, "ctr")) as opened:
        yield opened


@pytest.fixture(scope="session")
def skopeo(directory: Path) -> Skopeo:
    """Reads docker-archives."""
    return Skopeo("docker-archive", _sub(directory, "skopeo-docker"))


@pytest.fixture(scope="session")
def skopeo_oci(directory: Path) -> Skopeo:
    """Reads OCI archives."""
    return Skopeo("oci-archive", _sub(directory, "skopeo-oci"))


@pytest.fixture(scope="session")
def skopeo_layout(directory: Path) -> Skopeo:
    """Reads OCI directories."""
    return Skopeo("oci", _sub(directory, "skopeo-layout"))


@pytest.fixture(scope="session")
def consumers(docker: Docker, podman: Podman, ctr: Ctr, skopeo: Skopeo, skopeo_oci: Skopeo) -> Consumers:
    return Consumers(docker=docker, podman=podman, ctr=ctr, skopeo=skopeo, skopeo_oci=skopeo_oci)


@pytest.fixture(scope="session")
def umoci(directory: Path) -> Umoci:
    return Umoci(_sub(directory, "umoci"))
