"""Layouts G and C, whole file, against what Docker 28 saves after pulling the same image itself, and loads.

With a graph driver `blobs/sha256/` carries the time of the save, where ours has 0. With the containerd store
Docker 28 leaves out what we, as Docker 29 does, put in: an attestation of the chosen platform. Nothing else
is allowed for. It is Debian's 28.5.2, built with a newer Go than Docker's own.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from tests.standin.images import BuiltImage, ImageBuilder
from tests.standin.zoo import zoo

from .consumers import Docker
from .docker_28 import docker_28_root, open_docker_28, skopeo_of
from .random_configs import random_configs
from .rig import Rig
from .test_docker_save import BLOCK, CHECKSUM, MTIME, first_difference, members

GRAPH, STORE = "graph-driver", "containerd-store"
FORMATS = {
    "docker-archive": ("--format", "docker-archive"),
    "docker-archive-compressed": ("--format", "docker-archive", "--keep-compressed"),
    "docker-legacy": ("--format", "docker-legacy"),
    "oci-archive": ("--format", "oci-archive"),
}
SAVED_AS = {GRAPH: "docker-archive", STORE: "docker-archive-compressed"}
NO_IMAGES = {"helm-chart", "artifact", "schema1"}
NESTED = "looks for the platform in the outer index only"
TOO_DEEP = "takes 125 layers at most"
NOT_PULLED = {
    GRAPH: {
        "bzip2-and-xz": "looks for xz, which the root need not have",
        "many-layers": TOO_DEEP,
        "foreign-layer": "asks the registry for it, except on Windows",
        "nested-index": NESTED,
    },
    STORE: {
        "bzip2-and-xz": "unpacks tar, gzip and zstd",
        "foreign-layer": "goes without the layer, so its archive is not whole",
        "nested-index": NESTED,
    },
}
NOT_LOADED = {
    (GRAPH, "many-layers"): TOO_DEEP,
    (GRAPH, "bzip2-and-xz"): NOT_PULLED[GRAPH]["bzip2-and-xz"],
    (STORE, "bzip2-and-xz"): NOT_PULLED[STORE]["bzip2-and-xz"],
}
INFLATED = {"docker-archive", "docker-legacy"}
RANDOM_CONFIGS = dict(enumerate(random_configs(60, seed=28)))
SEVERAL = ("plain", "fractional-seconds", "same-layer-twice")


def images() -> dict[str, BuiltImage]:
    return {name: image for name, image in zoo().items() if name not in NO_IMAGES}


def leaves(image: BuiltImage) -> Iterator[BuiltImage]:
    for child in image.children:
        yield from leaves(child)
    if not image.children:
        yield image


def chosen(image: BuiltImage) -> BuiltImage:
    """The image that an engine on linux/amd64 runs."""
    return next(each for each in leaves(image) if not image.children or each.platform == "linux/amd64")


@dataclass(slots=True)
class Ours:
    """Our archives: all images of a format come of one command, when the first of them is asked for."""

    rig: Rig
    directory: Path
    said: dict[str, str] = field(default_factory=dict)

    def reference(self, name: str) -> str:
        return self.rig.reference(f"save-28/{name}", "1.0")

    def pull(self, archive_format: str, names: Iterable[str], *flags: str | Path) -> str:
        references = map(self.reference, names)
        arguments = [*FORMATS[archive_format], "--progress", "none", *flags]
        return self.rig.run_cli("pull", *references, *arguments, cwd=self.directory).stderr

    def archive(self, archive_format: str, name: str) -> Path:
        """Not there if we refuse the image."""
        target = self.directory / archive_format
        if archive_format not in self.said:
            target.mkdir()
            amd64 = ("--platform", "linux/amd64")
            said = self.pull(archive_format, images(), *amd64, "-o", target)
            random = [f"random-{at}" for at in RANDOM_CONFIGS]
            self.said[archive_format] = said + self.pull(archive_format, random, "-o", target)
        return target / f"{name}-1.0.tar"

    def whole(self, archive_format: str, name: str) -> Path:
        path = self.archive(archive_format, name)
        assert path.exists(), self.said[archive_format]
        return path

    def alone(self, archive_format: str, names: list[str], target: Path, *flags: str) -> bytes:
        said = self.pull(archive_format, names, *flags, "-o", target)
        assert target.exists(), said
        return target.read_bytes()


@pytest.fixture(scope="module")
def root() -> Path:
    return docker_28_root()


@pytest.fixture(scope="module")
def ours(root: Path, rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Ours:
    for name, image in images().items():
        rig.publish(image, f"save-28/{name}", "1.0")
    for at, raw in RANDOM_CONFIGS.items():
        builder = ImageBuilder().config(raw)
        for place in range(at % 4 + 1):
            builder.layer([("file", b"%d" % (place % 3))])
        rig.publish(builder.build(), f"save-28/random-{at}", "1.0")
    directory = tmp_path_factory.mktemp("ours-28") / "work"
    directory.mkdir()
    return Ours(rig, directory)


@pytest.fixture(scope="module")
def engines(root: Path, rig: Rig, directory: Path) -> Iterator[dict[str, Docker]]:
    homes = {kind: directory / f"28-{kind}" for kind in (GRAPH, STORE)}
    for home in homes.values():
        home.mkdir()
    files = {"hosts_file": rig.hosts_file, "ca_file": rig.ca_file}
    with (
        open_docker_28(root, homes[GRAPH], uses_containerd=False, **files) as graph,
        open_docker_28(root, homes[STORE], uses_containerd=True, **files) as store,
    ):
        yield {GRAPH: graph, STORE: store}


def has_pulled(engine: Docker, rig: Rig, reference: str) -> bool:
    """Without a layer of another image: the containerd store doesn't fetch those that it has unpacked."""
    engine.forget_all()
    pulled = engine.run("--config", rig.docker_config, "pull", "--quiet", reference)
    return pulled.returncode == 0


def saved(engine: Docker, target: Path, *names: str) -> bytes:
    engine.output("save", "--output", target, *names)
    return target.read_bytes()


def without_time_of_save(tar: bytes) -> bytes:
    result = bytearray(tar)
    at = next(at for at, name in members(tar) if name == "blobs/sha256/")
    header = bytearray(tar[at : at + BLOCK])
    assert int(header[MTIME].rstrip(b"\0"), 8) >= 0
    header[MTIME] = b"%011o\0" % 0
    header[CHECKSUM] = b" " * 8
    header[CHECKSUM] = b"%06o\0 " % sum(header)
    result[at : at + BLOCK] = header
    return bytes(result)


def without(tar: bytes, names: set[str]) -> bytes:
    """The tar less these members."""
    starts = [*members(tar), (len(tar) - 2 * BLOCK, "")]
    kept = [tar[at:end] for (at, name), (end, _) in pairwise(starts) if name not in names]
    return b"".join([*kept, tar[-2 * BLOCK :]])


def attestation_blobs(image: BuiltImage) -> set[str]:
    own = chosen(image).digest
    found = [
        child for child in image.children if child.entry_annotations.get("vnd.docker.reference.digest") == own
    ]
    digests = {
        digest
        for each in found
        for digest in (each.digest, each.config_digest, *(layer.digest for layer in each.layers))
    }
    return {f"blobs/sha256/{digest.removeprefix('sha256:')}" for digest in digests}


def check_same(mine: bytes, theirs: bytes) -> None:
    if mine != theirs:
        pytest.fail(first_difference(mine, theirs), pytrace=False)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in (GRAPH, STORE) for name in sorted(images()) if name not in NOT_PULLED[kind]],
)
def test_docker_save_after_docker_pull_gives_our_bytes(
    engines: dict[str, Docker], ours: Ours, tmp_path: Path, kind: str, name: str
) -> None:
    reference = ours.reference(name)
    assert has_pulled(engines[kind], ours.rig, reference)
    theirs = saved(engines[kind], tmp_path / "theirs.tar", reference)
    mine = ours.whole(SAVED_AS[kind], name).read_bytes()
    if kind == GRAPH:
        theirs = without_time_of_save(theirs)
    check_same(without(mine, attestation_blobs(images()[name])) if kind == STORE else mine, theirs)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in NOT_PULLED for name in NOT_PULLED[kind]])
def test_what_docker_does_not_pull_is_known(
    engines: dict[str, Docker], ours: Ours, tmp_path: Path, kind: str, name: str
) -> None:
    reference = ours.reference(name)
    if (kind, name) == (STORE, "foreign-layer"):
        assert has_pulled(engines[kind], ours.rig, reference)
        theirs = saved(engines[kind], tmp_path / "theirs.tar", reference)
        mine = ours.whole(SAVED_AS[kind], name).read_bytes()
        (missing,) = [layer.digest for layer in images()[name].layers if layer.urls]
        check_same(without(mine, {f"blobs/sha256/{missing.removeprefix('sha256:')}"}), theirs)
    elif name == "bzip2-and-xz":
        has_pulled(engines[kind], ours.rig, reference)
    else:
        assert not has_pulled(engines[kind], ours.rig, reference)


@pytest.mark.parametrize("at", RANDOM_CONFIGS)
def test_a_random_config_gives_dockers_bytes_or_is_refused_by_both(
    engines: dict[str, Docker], ours: Ours, tmp_path: Path, at: int
) -> None:
    mine = ours.archive("docker-archive", f"random-{at}")
    is_pulled = has_pulled(engines[GRAPH], ours.rig, ours.reference(f"random-{at}"))
    assert mine.exists() == is_pulled, ours.said["docker-archive"]
    if is_pulled:
        theirs = saved(engines[GRAPH], tmp_path / "theirs.tar", ours.reference(f"random-{at}"))
        check_same(mine.read_bytes(), without_time_of_save(theirs))


@pytest.mark.parametrize("kind", [GRAPH, STORE])
def test_an_image_saved_by_its_id_is_ours_without_name(
    engines: dict[str, Docker], ours: Ours, tmp_path: Path, kind: str
) -> None:
    assert has_pulled(engines[kind], ours.rig, ours.reference("plain"))
    (image_id,) = engines[kind].images().values()
    theirs = saved(engines[kind], tmp_path / "theirs.tar", image_id)
    mine = ours.alone(SAVED_AS[kind], ["plain"], tmp_path / "ours.tar", "--no-name")
    check_same(mine, without_time_of_save(theirs) if kind == GRAPH else theirs)


@pytest.mark.parametrize("kind", [GRAPH, STORE])
def test_an_image_saved_under_several_names_is_ours_with_those_names(
    engines: dict[str, Docker], ours: Ours, tmp_path: Path, kind: str
) -> None:
    names = ["zebra:1", "team/app:B", "localhost:5000/app:a", "zebra:0"]
    assert has_pulled(engines[kind], ours.rig, ours.reference("plain"))
    for name in names:
        engines[kind].output("tag", ours.reference("plain"), name)
    theirs = saved(engines[kind], tmp_path / "theirs.tar", *names)
    flags = [part for name in names for part in ("--name", name)]
    mine = ours.alone(SAVED_AS[kind], ["plain"], tmp_path / "ours.tar", *flags)
    check_same(mine, without_time_of_save(theirs) if kind == GRAPH else theirs)


def parts(tar: bytes) -> dict[str, object]:
    """Members by name; those with one entry an image without their order, which Docker leaves to chance."""
    result: dict[str, object] = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            opened = archive.extractfile(member)
            content: object = opened.read() if opened else None
            if member.name == "manifest.json" and isinstance(content, bytes):
                content = sorted(json.loads(content), key=json.dumps)
            if member.name == "index.json" and isinstance(content, bytes):
                document = json.loads(content)
                content = document | {"manifests": sorted(document["manifests"], key=json.dumps)}
            result[member.name] = (content, member.mode, member.type, member.uname)
    return result


@pytest.mark.parametrize("kind", [GRAPH, STORE])
def test_several_images_in_one_tar_are_dockers_but_for_their_order(
    engines: dict[str, Docker], ours: Ours, tmp_path: Path, kind: str
) -> None:
    engines[kind].forget_all()
    references = [ours.reference(name) for name in SEVERAL]
    for reference in references:
        engines[kind].output("--config", ours.rig.docker_config, "pull", "--quiet", reference)
    theirs = parts(saved(engines[kind], tmp_path / "theirs.tar", *references))
    mine = parts(ours.alone(SAVED_AS[kind], list(SEVERAL), tmp_path / "ours.tar"))
    assert list(mine) == list(theirs)
    assert mine == theirs


@pytest.mark.parametrize(
    ("kind", "archive_format", "name"),
    [
        (kind, archive_format, name)
        for kind in (GRAPH, STORE)
        for archive_format in FORMATS
        for name in sorted(images())
    ],
)
def test_docker_28_loads_the_archive_under_its_name_with_the_right_id(
    engines: dict[str, Docker], ours: Ours, kind: str, archive_format: str, name: str
) -> None:
    """The store's ids are manifests' digests; it makes one up for an archive that has no OCI manifest."""
    archive = ours.whole(archive_format, name)
    taken = engines[kind].take(archive)
    is_understood = (kind, archive_format) != (GRAPH, "oci-archive")
    is_inflated = name == "bzip2-and-xz" and archive_format in INFLATED
    reason = None if is_inflated else NOT_LOADED.get((kind, name))
    if not is_understood or reason:
        assert not taken.accepted or "failed to" in taken.text, (reason, taken)
        return
    assert taken.accepted, taken.text
    assert "failed to" not in taken.text, taken.text
    assert list(taken.images) == [ours.reference(name)]
    image_id = taken.images[ours.reference(name)]
    if kind == GRAPH:
        assert image_id == chosen(images()[name]).config_digest
    elif archive_format == "docker-archive":
        with tarfile.open(archive) as tar:
            opened = tar.extractfile("index.json")
            assert opened is not None
            assert image_id == json.load(opened)["manifests"][0]["digest"]
    elif archive_format != "docker-legacy":
        assert image_id in {images()[name].digest, chosen(images()[name]).digest}


@pytest.mark.parametrize("kind", [GRAPH, STORE])
@pytest.mark.parametrize("archive_format", FORMATS)
def test_docker_28_loads_several_images_from_one_tar(
    engines: dict[str, Docker], ours: Ours, tmp_path: Path, kind: str, archive_format: str
) -> None:
    ours.alone(archive_format, list(SEVERAL), tmp_path / "all.tar")
    taken = engines[kind].take(tmp_path / "all.tar")
    if (kind, archive_format) == (GRAPH, "oci-archive"):
        assert not taken.accepted
        return
    assert set(taken.images) == {ours.reference(name) for name in SEVERAL}, taken.text
    if kind == GRAPH:
        assert taken.images == {ours.reference(name): zoo()[name].config_digest for name in SEVERAL}


@pytest.mark.parametrize("archive_format", FORMATS)
@pytest.mark.parametrize("name", sorted(images()))
def test_the_skopeo_of_that_time_reads_it_with_the_right_id(
    root: Path, ours: Ours, tmp_path: Path, archive_format: str, name: str
) -> None:
    transport = "oci-archive" if archive_format == "oci-archive" else "docker-archive"
    archive = ours.whole(archive_format, name)
    taken = skopeo_of(root, transport, tmp_path).take(archive)
    config = chosen(images()[name]).config_digest
    if (archive_format, name) == ("oci-archive", "foreign-layer"):
        assert not taken.accepted, "it used to fetch the layer by its URL, whose host it cannot know"
        return
    assert taken.accepted, taken.text
    assert taken.images == {config: config}
