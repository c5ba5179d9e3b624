"""Who is measured, as users would call them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.interop.daemons import DEBIAN_PATH, program
from tests.interop.rig import REGISTRY_HOST, STORAGE_HOST, Rig
from tests.standin.images import BuiltImage

from .links import Links
from .measure import BenchmarkError, Contender

CLI = Path(sys.executable).with_name("ecr-async-pull")
_PIPELINE = Path(__file__).with_name("pipeline.sh")
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An image in the rig's registry; `directory` holds the lists that rivals are given."""

    image: BuiltImage
    repository: str
    directory: Path

    @property
    def stored_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.image.layers)

    @property
    def tar_bytes(self) -> int:
        return sum(layer.tar_size_bytes for layer in self.image.layers)


class Contenders:
    """Makes contenders for images in one rig; `home` is the home directory of all of them.

    `skopeo`: another one than Debian's. `crane`: None where there is none to measure.
    """

    def __init__(
        self, rig: Rig, links: Links, home: Path, *, skopeo: Path | None = None, crane: Path | None = None
    ) -> None:
        self._skopeo = skopeo
        self._crane = crane
        self.rig = rig
        self.links = links
        self.home = home
        self._env = rig.environment(home)
        home.mkdir(parents=True, exist_ok=True)
        login = json.loads((rig.docker_config / "config.json").read_text())["auths"][REGISTRY_HOST]["auth"]
        user, _, password = base64.b64decode(login).decode().partition(":")
        self._netrc = home / "netrc"
        self._netrc.write_text(f"machine {REGISTRY_HOST} login {user} password {password}\n")

    def publish(self, image: BuiltImage, repository: str) -> Published:
        """Into the registry; what it serves is in the page cache then."""
        self.rig.publish(image, repository, "1.0")
        directory = self.home / repository.replace("/", "-")
        directory.mkdir(exist_ok=True)
        for layer in image.layers:
            with self.rig.blob_path(layer.digest).open("rb", buffering=0) as blob:
                while blob.read(1 << 20):
                    pass
        return Published(image=image, repository=repository, directory=directory)

    def reference(self, published: Published) -> str:
        return self.rig.reference(published.repository, "1.0")

    def ours(
        self,
        published: Published,
        hosts_file: Path,
        *options: str,
        name: str = "ecr-async-pull",
        watch: Callable[[], Callable[[], int]] | None = None,
    ) -> Contender:
        """With default settings but for `options`."""
        is_directory = "oci" in options

        def command(output: Path) -> list[str]:
            target = f"{output}/image" if is_directory else f"{output}/"
            return [str(CLI), "pull", self.reference(published), "-o", target, *options]

        return Contender(
            name=" ".join([name, *options]),
            command=command,
            env=self._env,
            hosts_file=hosts_file,
            check=self._verify,
            watch=watch,
        )

    def unrescued(self, published: Published, hosts_file: Path) -> Contender:
        """Ourselves, but slow connections are left to crawl."""
        python = [sys.executable, "-m", "tests.benchmarks.unrescued"]
        return Contender(
            name="without straggler handling",
            command=lambda output: [*python, self.reference(published), str(output)],
            env={**self._env, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            hosts_file=hosts_file,
            check=self._verify,
        )

    def up_to_date(self, published: Published, hosts_file: Path) -> Contender:
        """A pull that finds everything there."""
        ours = self.ours(published, hosts_file)

        def command(output: Path) -> Sequence[str]:
            return ours.command(output.with_name("kept"))

        def prepare(output: Path) -> None:
            kept = output.with_name("kept")
            kept.mkdir()
            result = self.rig.run([*ours.command(kept)], env=self._env, cwd=output)
            if result.returncode != 0:
                raise BenchmarkError(result.stderr)

        return Contender(
            name="up-to-date pull", command=command, env=self._env, hosts_file=hosts_file, prepare=prepare
        )

    def said(self, option: str) -> Contender:
        """`ecr-async-pull OPTION`, which needs no network."""
        return Contender(name=option, command=lambda _output: [str(CLI), option], env=self._env)

    def skopeo(
        self,
        published: Published,
        hosts_file: Path,
        transport: str,
        *,
        watch: Callable[[], Callable[[], int]] | None = None,
    ) -> Contender:
        """`transport`: docker-archive or oci."""
        reference = self.reference(published)
        skopeo = [str(self._skopeo or program("skopeo", package="skopeo")), "copy", "--quiet"]
        login = ["--src-authfile", str(self.rig.docker_config / "config.json")]

        def command(output: Path) -> list[str]:
            target = (
                f"{output}/image.tar:{reference}" if transport == "docker-archive" else f"{output}/image:1.0"
            )
            return [*skopeo, *login, f"docker://{reference}", f"{transport}:{target}"]

        return Contender(
            name=f"skopeo {transport}",
            command=command,
            env={"PATH": DEBIAN_PATH, "HOME": str(self.home), "SSL_CERT_FILE": str(self.rig.ca_file)},
            hosts_file=hosts_file,
            watch=watch,
        )

    def crane(self, published: Published, hosts_file: Path, form: str) -> list[Contender]:
        """`form`: tarball (docker's, layers as stored) or oci. Nobody where there is no crane."""
        if self._crane is None:
            return []
        crane = [str(self._crane), "pull", "--format", form, self.reference(published)]
        return [
            Contender(
                name=f"crane {form}",
                command=lambda output: [*crane, f"{output}/image"],
                env={
                    "PATH": DEBIAN_PATH,
                    "HOME": str(self.home),
                    "SSL_CERT_FILE": str(self.rig.ca_file),
                    "DOCKER_CONFIG": str(self.rig.docker_config),
                },
                hosts_file=hosts_file,
            )
        ]

    def pipeline(self, published: Published, hosts_file: Path, *, hash_name: str, packs: bool) -> Contender:
        """A shell script, two layers at a time; `hash_name`: sha256sum or openssl, which is far quicker."""
        program("igzip", package="isal")
        command = "sha256sum" if hash_name == "sha256sum" else "openssl dgst -sha256"
        layers = published.directory / "layers"
        layers.write_text(
            "".join(
                f"{self._registry_url(published, each.digest)} {each.digest} {each.diff_id}\n"
                for each in published.image.layers
            )
        )
        packing = "tar" if packs else "layers only"
        return Contender(
            name=f"shell: curl, {hash_name}, igzip, {packing}",
            command=lambda output: [
                *("bash", str(_PIPELINE), str(output), str(layers), str(self._netrc)),
                *(str(self.rig.ca_file), command, "pack" if packs else "unpacked"),
            ],
            env=self._env,
            hosts_file=hosts_file,
        )

    def parallel_curl(self, published: Published, hosts_file: Path) -> Contender:
        """The stored blobs as files, nothing checked."""
        sizes = {each.digest[7:]: each.size_bytes for each in published.image.layers}

        def command(output: Path) -> list[str]:
            config = output.with_name("curl.config")
            config.write_text(
                "".join(
                    f'url = "{self._registry_url(published, "sha256:" + each)}"\noutput = "{output}/{each}"\n'
                    for each in sizes
                )
            )
            return [
                *(program("curl", package="curl"), "--silent", "--show-error", "--fail", "--location"),
                *("--parallel", "--parallel-immediate", "--parallel-max", str(_CONNECTIONS)),
                *("--netrc-file", str(self._netrc), "--cacert", str(self.rig.ca_file)),
                *("--config", str(config)),
            ]

        return Contender(
            name="parallel curl, raw",
            command=command,
            env=self._env,
            hosts_file=hosts_file,
            check=partial(_check_sizes, sizes),
        )

    def aria2c(self, published: Published, hosts_file: Path) -> Contender:
        """The one layer's stored bytes from the storage host, over 16 connections."""
        (layer,) = published.image.layers
        return Contender(
            name="aria2c -x16, raw",
            command=lambda output: [
                *(program("aria2c", package="aria2"), "--quiet", "--no-conf", "--file-allocation=none"),
                *("-x16", "-s16", "-k1M", "--ca-certificate", str(self.rig.ca_file)),
                *("--dir", str(output), "--out", layer.digest[7:], self.storage_url(layer.digest)),
            ],
            env=self._env,
            hosts_file=hosts_file,
            check=partial(_check_sizes, {layer.digest[7:]: layer.size_bytes}),
        )

    def storage_url(self, digest: str) -> str:
        path = self.rig.blob_path(digest).relative_to(self.rig.tree.parents[2])
        return f"https://{STORAGE_HOST}/{path}"

    def warm_up(self, published: Published) -> None:
        """Fetch and keep the registry's token, and compile what is imported: no run pays for that."""
        output = self.home / "warm-up"
        output.mkdir()
        result = self.rig.run(
            [str(CLI), "pull", self.reference(published), "-o", f"{output}/"], env=self._env, cwd=self.home
        )
        if result.returncode != 0:
            raise BenchmarkError(f"the rig doesn't work:\n{result.stderr}")

    def _registry_url(self, published: Published, digest: str) -> str:
        return f"https://{REGISTRY_HOST}/v2/{published.repository}/blobs/{digest}"

    def _verify(self, output: Path) -> None:
        (written,) = output.iterdir()
        result = subprocess.run(
            [str(CLI), "verify", str(written)], env=self._env, capture_output=True, text=True
        )
        if result.returncode != 0:
            raise BenchmarkError(f"what was written is wrong:\n{result.stdout}{result.stderr}")


def _check_sizes(sizes: Mapping[str, int], output: Path) -> None:
    for name, size in sizes.items():
        if (output / name).stat().st_size != size:
            raise BenchmarkError(f"{name} has {(output / name).stat().st_size} bytes instead of {size}")
