"""Programs of Debian packages, started on loopback and ended by pid: each a context manager."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

DEBIAN_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
READY_TIMEOUT_S = 60.0
POLL_S = 0.02


def is_required() -> bool:
    """Where CI sets this, a part that is missing is a failure; elsewhere it skips the tests that need it."""
    return os.environ.get("ECR_ASYNC_PULL_REQUIRE_INTEROP", "") not in {"", "0"}


def unavailable(reason: str) -> None:
    if is_required():
        pytest.fail(f"{reason}, and ECR_ASYNC_PULL_REQUIRE_INTEROP is set", pytrace=False)
    pytest.skip(reason)


def program(name: str, *, package: str) -> str:
    """Debian's own `name`, whatever else is first on PATH."""
    found = shutil.which(name, path=DEBIAN_PATH)
    if found is None:
        unavailable(f"{name} is missing (apt-get install {package})")
    assert found is not None
    return found


def loopback_addresses(count: int) -> tuple[str, ...]:
    """Addresses within 127/8 on which nobody listens on port 443, so that two rigs may run at once."""
    for _ in range(50):
        network = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 2}"
        addresses = tuple(f"{network}.{last}" for last in range(10, 10 + count))
        if all(_is_free(address, 443) for address in addresses):
            return addresses
    unavailable("no loopback address lets this user listen on port 443 (run as root)")
    raise AssertionError


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def answers(address: str, port: int) -> Callable[[], bool]:
    def check() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            return True
        return False

    return check


def succeeds(command: Sequence[str], env: Mapping[str, str]) -> Callable[[], bool]:
    return lambda: subprocess.run(command, env=env, capture_output=True).returncode == 0


def with_hosts(hosts_file: Path, command: Sequence[str]) -> list[str]:
    """`command` in a mount namespace of its own, where `hosts_file` lies on /etc/hosts; the pid stays."""
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    return [
        "/usr/bin/unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        str(hosts_file),
        *command,
    ]


@contextlib.contextmanager
def running(
    command: Sequence[str], *, env: Mapping[str, str], log: Path, is_ready: Callable[[], bool]
) -> Iterator[int]:
    """Start, wait until ready, yield the pid; at the end SIGTERM and wait."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                end = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{command[0]} did not get ready (exit {process.poll()}):\n{end}")
            time.sleep(POLL_S)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def dockerd(directory: Path, *, hosts_file: Path, ca_file: Path) -> Iterator[str]:
    """A Docker daemon with its own data, no network of its own; yields its `unix://` address."""
    docker = program("docker", package="docker.io")
    address = f"unix://{directory}/docker.sock"
    env = {"PATH": DEBIAN_PATH, "HOME": str(directory), "SSL_CERT_FILE": str(ca_file), "TZ": "UTC"}
    command = [
        program("dockerd", package="docker.io"),
        *("--host", address, "--pidfile", str(directory / "pid")),
        *("--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")),
        *("--config-file", str(_written(directory / "daemon.json", "{}"))),
        *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
    ]
    ready = succeeds([docker, "--host", address, "version"], env)
    with running(with_hosts(hosts_file, command), env=env, log=directory / "log", is_ready=ready):
        yield address


@contextlib.contextmanager
def containerd(directory: Path) -> Iterator[str]:
    """containerd with its own content store; yields the path of its socket."""
    ctr = program("ctr", package="containerd")
    address = str(directory / "containerd.sock")
    env = {"PATH": DEBIAN_PATH, "HOME": str(directory), "TZ": "UTC"}
    plugins = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
    config = f'{plugins}[ttrpc]\naddress = "{address}.ttrpc"\n'
    command = [
        program("containerd", package="containerd"),
        *("--config", str(_written(directory / "config.toml", config))),
        *("--root", str(directory / "root"), "--state", str(directory / "state"), "--address", address),
    ]
    ready = succeeds([ctr, "--address", address, "version"], env)
    with running(command, env=env, log=directory / "log", is_ready=ready):
        yield address


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
