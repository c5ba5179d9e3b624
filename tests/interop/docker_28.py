"""Docker 28 from a Debian root elsewhere on this machine, for what Debian's own daemon is too old for.

ECR_ASYNC_PULL_DOCKER28_ROOT names the root: `debootstrap --variant=minbase sid ROOT`, and in it, with a
`policy-rc.d` that lets nothing start, `apt-get install --no-install-recommends docker.io docker-cli skopeo`.
Its programs run in a mount namespace where the root's `/usr` and `/etc` lie on this machine's: all other
paths mean the same to both, and nothing is left mounted when they end.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .consumers import Docker, Skopeo
from .daemons import DEBIAN_PATH, running, succeeds

VARIABLE = "ECR_ASYNC_PULL_DOCKER28_ROOT"


def docker_28_root() -> Path:
    """Skips where there is none: no distribution has this version and the older one side by side."""
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} names no root with Docker 28")
    root = Path(os.environ[VARIABLE])
    assert (root / "usr/bin/dockerd").exists() or (root / "usr/sbin/dockerd").exists(), root
    return root


def in_root(root: Path, command: Sequence[str], *, hosts_file: Path | None = None) -> list[str]:
    """`command` among the root's programs; the pid stays."""
    script = (
        'mount --bind "$0/etc" /etc && { [ -z "$1" ] || mount --bind "$1" /etc/hosts; }'
        ' && mount --bind "$0/usr" /usr && shift && exec "$@"'
    )
    private = ["/usr/bin/unshare", "--mount", "--propagation", "private"]
    return [*private, "sh", "-c", script, str(root), str(hosts_file or ""), *command]


@contextlib.contextmanager
def open_docker_28(
    root: Path, directory: Path, *, hosts_file: Path, ca_file: Path, uses_containerd: bool
) -> Iterator[Docker]:
    """The daemon with its own data, and the client of the same version."""
    address = f"unix://{directory}/docker.sock"
    env = {"PATH": DEBIAN_PATH, "HOME": str(directory), "SSL_CERT_FILE": str(ca_file), "TZ": "UTC"}
    config = directory / "daemon.json"
    config.write_text(json.dumps({"features": {"containerd-snapshotter": uses_containerd}}))
    command = [
        *("dockerd", "--host", address, "--pidfile", str(directory / "pid")),
        *("--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")),
        *("--config-file", str(config)),
        *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
    ]
    client = in_root(root, ["docker"])
    ready = succeeds([*client, "--host", address, "version"], env)
    daemon = in_root(root, command, hosts_file=hosts_file)
    with running(daemon, env=env, log=directory / "log", is_ready=ready):
        yield Docker(address, directory, client=client)


def skopeo_of(root: Path, transport: str, directory: Path) -> Skopeo:
    return Skopeo(transport, directory, command=in_root(root, ["skopeo"]))
