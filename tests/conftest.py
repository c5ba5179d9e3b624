"""What every test may lean on: a home of its own, a local ECR, and a watch over the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standin.server import StandIn

_BLOCKED_S = 0.2
_AMBIENT_PREFIXES = ("AWS_", "ECR_ASYNC_PULL_", "JOB_COMPLETION_")
_FOR_THE_TESTS = {"ECR_ASYNC_PULL_REQUIRE_INTEROP", "ECR_ASYNC_PULL_DOCKER28_ROOT"}
_AMBIENT = {
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "ssl_cert_file",
    "docker_config",
    "registry_auth_file",
}


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: nothing that this machine's user has set can decide a test."""
    for name in list(os.environ):
        if name in _FOR_THE_TESTS:
            continue
        if name.startswith(_AMBIENT_PREFIXES) or name.lower() in _AMBIENT:
            monkeypatch.delenv(name)
    directory = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / ".cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(directory / ".local" / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / ".config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(directory / ".local" / "share"))
    monkeypatch.setenv("DOCKER_CONFIG", str(directory / ".docker"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return directory


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A local ECR in a thread of its own: empty, and without faults."""
    with StandIn.threaded() as running:
        yield running


@pytest.fixture
def standin_environment(standin: StandIn, home: Path) -> dict[str, str]:
    """The whole environment for a child process that shall take the stand-in for AWS."""
    return dict(os.environ) | standin.environment() | {
        name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "DOCKER_CONFIG")
    }  # fmt: skip


@pytest.fixture
def never_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fails the test when one callback or task step holds this thread's event loop for too long."""
    slow: list[str] = []
    thread = threading.current_thread()
    run_handle = asyncio.Handle._run

    def watched(handle: asyncio.Handle) -> None:
        started_s = time.perf_counter()
        run_handle(handle)
        took_s = time.perf_counter() - started_s
        if took_s > _BLOCKED_S and threading.current_thread() is thread:
            slow.append(f"{took_s:.2f} s in {handle!r}")

    monkeypatch.setattr(asyncio.Handle, "_run", watched)
    yield slow
    assert not slow, "the event loop was blocked: " + "; ".join(slow)
