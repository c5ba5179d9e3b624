"""The programs that take our archives, behind the same two questions: do you take it, and as what?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .daemons import DEBIAN_PATH, containerd, program


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """`images`: name -> image ID, for ctr the manifest's digest; an image with no name has that as its name.

    `text` is all that the consumer said.
    """

    accepted: bool
    images: dict[str, str] = field(default_factory=dict)
    text: str = ""


def run(command: list[str], *, home: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    env = {"PATH": DEBIAN_PATH, "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}
    return subprocess.run(
        command,
        env=env,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def _refused(result: subprocess.CompletedProcess[str]) -> Taken:
    return Taken(accepted=False, text=result.stdout + result.stderr)


class Docker:
    """`docker load` into the daemon at `address`; `client`: another than Debian's own."""

    def __init__(self, address: str, home: Path, *, client: Sequence[str] = ()) -> None:
        self._docker = [*(client or [program("docker", package="docker.io")]), "--host", address]
        self._home = home

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run([*self._docker, *map(str, arguments)], home=self._home)

    def output(self, *arguments: str | Path) -> str:
        result = self.run(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def take(self, archive: Path) -> Taken:
        self.forget_all()
        result = self.run("load", "--input", archive)
        if result.returncode != 0:
            return _refused(result)
        return Taken(accepted=True, images=self.images(), text=result.stdout + result.stderr)

    def images(self) -> dict[str, str]:
        listed = self.output("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
        pairs = (line.split() for line in listed.splitlines())
        return {image_id if name == "<none>:<none>" else name: image_id for name, image_id in pairs}

    def forget_all(self) -> None:
        ids = set(self.output("images", "--quiet", "--no-trunc").split())
        if ids:
            self.output("rmi", "--force", *ids)


class Podman:
    """`podman load` into a store of its own."""

    def __init__(self, directory: Path) -> None:
        store = ["--root", directory / "root", "--runroot", directory / "run", "--storage-driver", "overlay"]
        temporary = [
            "--tmpdir",
            directory / "tmp",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ]
        self._podman = [program("podman", package="podman"), *map(str, store), *map(str, temporary)]
        self._home = directory

    def _run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run([*self._podman, *map(str, arguments)], home=self._home)

    def take(self, archive: Path) -> Taken:
        self._run("rmi", "--all", "--force")
        result = self._run("load", "--input", archive)
        if result.returncode != 0:
            return _refused(result)
        images: dict[str, str] = {}
        for image in json.loads(self._run("images", "--no-trunc", "--format", "json").stdout):
            image_id = "sha256:" + image["Id"]
            images |= dict.fromkeys(image.get("Names") or [image_id], image_id)
        return Taken(accepted=True, images=images, text=result.stdout + result.stderr)


class Ctr:
    """`ctr images import`, unpacking into containerd's native snapshotter."""

    def __init__(self, address: str, home: Path) -> None:
        self._ctr = [program("ctr", package="containerd"), "--address", address]
        self._home = home

    def _run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run([*self._ctr, *map(str, arguments)], home=self._home)

    def take(self, archive: Path) -> Taken:
        names = self._run("images", "list", "--quiet").stdout.split()
        if names:
            self._run("images", "remove", "--sync", *names)
        result = self._run("images", "import", archive)
        if result.returncode != 0:
            return _refused(result)
        lines = self._run("images", "list").stdout.splitlines()[1:]
        images = {line.split()[0]: line.split()[2] for line in lines}
        return Taken(accepted=True, images=images, text=result.stdout + result.stderr)

    def by_config(self, taken: Taken) -> Taken:
        """The same with config digests, which other engines call image IDs."""
        images = {name: self.config_digest(digest) for name, digest in taken.images.items()}
        return replace(taken, images=images)

    def config_digest(self, manifest_digest: str) -> str:
        manifest = json.loads(self._run("content", "get", manifest_digest).stdout)
        digest: str = manifest["config"]["digest"]
        return digest


class Skopeo:
    """`skopeo copy TRANSPORT:archive dir:`, which recomputes every digest on the way."""

    def __init__(self, transport: str, home: Path, *, command: Sequence[str] = ()) -> None:
        self._skopeo = list(command) or [program("skopeo", package="skopeo")]
        self._transport = transport
        self._home = home

    def inspect(self, archive: Path, *flags: str) -> subprocess.CompletedProcess[str]:
        return run([*self._skopeo, "inspect", *flags, f"{self._transport}:{archive}"], home=self._home)

    def convert(self, archive: Path, target: str) -> None:
        result = run(
            [*self._skopeo, "copy", "--quiet", f"{self._transport}:{archive}", target], home=self._home
        )
        assert result.returncode == 0, result.stderr

    def take(self, archive: Path, reference: str = "") -> Taken:
        source = f"{self._transport}:{archive}" + (f":{reference}" if reference else "")
        with tempfile.TemporaryDirectory(dir=self._home) as target:
            result = run([*self._skopeo, "copy", "--quiet", source, f"dir:{target}"], home=self._home)
            if result.returncode != 0:
                return _refused(result)
            manifest = json.loads((Path(target) / "manifest.json").read_bytes())
            config = manifest["config"]["digest"]
            for descriptor in [manifest["config"], *manifest["layers"]]:
                blob = (Path(target) / descriptor["digest"].removeprefix("sha256:")).read_bytes()
                assert "sha256:" + hashlib.sha256(blob).hexdigest() == descriptor["digest"]
        return Taken(accepted=True, images={reference or config: config}, text=result.stderr)


class Umoci:
    """`umoci unpack` of an OCI directory."""

    def __init__(self, home: Path) -> None:
        self._umoci = program("umoci", package="umoci")
        self._home = home

    def unpack(self, layout: Path, reference: str, bundle: Path) -> subprocess.CompletedProcess[str]:
        return run([self._umoci, "unpack", "--image", f"{layout}:{reference}", str(bundle)], home=self._home)


@contextlib.contextmanager
def open_ctr(directory: Path) -> Iterator[Ctr]:
    with containerd(directory) as address:
        yield Ctr(address, directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumers:
    """All that read tars. `skopeo` reads docker-archives, `skopeo_oci` OCI archives."""

    docker: Docker
    podman: Podman
    ctr: Ctr
    skopeo: Skopeo
    skopeo_oci: Skopeo
