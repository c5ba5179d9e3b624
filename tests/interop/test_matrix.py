"""Every format in the hands of every consumer, over the whole zoo of images.

What a consumer is known to refuse is stated, with the reason, and has to be refused: a consumer that has
learned to take it is news as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.standin.images import DOCKER_MANIFEST, BuiltImage
from tests.standin.zoo import loadable

from .consumers import Consumers, Ctr, Docker, Skopeo, Taken, Umoci
from .rig import Rig

FORMATS = {
    "docker-archive": ("--format", "docker-archive"),
    "docker-archive-compressed": ("--format", "docker-archive", "--keep-compressed"),
    "docker-legacy": ("--format", "docker-legacy"),
    "oci-archive": ("--format", "oci-archive"),
    "oci": ("--format", "oci"),
}
DOCKER_FORMATS = ("docker-archive", "docker-archive-compressed", "docker-legacy")

KEPT_ZSTD = "Docker 20.10 knows no zstd"
TOO_DEEP = "Docker 20.10 takes 125 layers at most"
NO_PROCESSOR = "containerd 1.6 unpacks tar, gzip and OCI's zstd"
DOCKER_TYPE = "an OCI layout, to this consumer, has OCI's media types"
BY_URL = "fetches the layer by its URL, whose host it cannot know"

READ_THROUGH_LINK = (
    "skopeo takes no image whose layer is, as Docker writes it, a link into another's directory"
)
SLOW_PER_LAYER = {"docker", "podman"}
SEVERAL = ("plain", "one-layer", "same-layer-twice")

DOCKER_TYPED = {
    name: DOCKER_TYPE for name, image in loadable().items() if image.media_type == DOCKER_MANIFEST
}

REFUSED: dict[tuple[str, str], dict[str, str]] = {
    ("docker-archive", "docker"): {"many-layers": TOO_DEEP},
    ("docker-archive-compressed", "docker"): {
        "zstd": KEPT_ZSTD,
        "docker-zstd": KEPT_ZSTD,
        "mislabelled": KEPT_ZSTD,
    },
    ("docker-archive-compressed", "ctr"): {"docker-zstd": NO_PROCESSOR, "bzip2-and-xz": NO_PROCESSOR},
    ("oci-archive", "ctr"): {"docker-zstd": NO_PROCESSOR, "bzip2-and-xz": NO_PROCESSOR},
    ("oci-archive", "podman"): {"docker-zstd": "knows no such media type", "foreign-layer": BY_URL},
    ("oci-archive", "skopeo-oci"): {"docker-zstd": "knows no such media type", "foreign-layer": BY_URL},
    ("oci", "umoci"): {
        **DOCKER_TYPED,
        "zstd": "umoci unpacks gzip and tar",
        "bzip2-and-xz": "umoci unpacks gzip and tar",
        "mislabelled": "umoci believes the media type",
    },
    ("oci", "skopeo-oci"): DOCKER_TYPED,
}


@dataclass(slots=True)
class Archives:
    """Our archives: all images of a format come of one command, when the first of them is asked for."""

    rig: Rig
    directory: Path
    batches: dict[str, str] = field(default_factory=dict)

    def reference(self, name: str) -> str:
        return self.rig.reference(f"zoo/{name}", "1.0")

    def of(self, archive_format: str, name: str) -> Path:
        target = self.directory / archive_format
        if archive_format not in self.batches:
            target.mkdir(parents=True)
            references = map(self.reference, loadable())
            result = self.rig.run_cli(
                "pull", *references, *FORMATS[archive_format], "-o", target, cwd=self.directory
            )
            self.batches[archive_format] = result.stderr if result.returncode else ""
        path = target if archive_format == "oci" else target / f"{name}-1.0.tar"
        is_here = path.exists() and archive_format != "oci"
        assert is_here or not self.batches[archive_format], self.batches[archive_format]
        return path


@pytest.fixture(scope="module")
def archives(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Archives:
    for name, image in loadable().items():
        rig.publish(image, f"zoo/{name}", "1.0")
    directory = tmp_path_factory.mktemp("matrix") / "work"
    directory.mkdir()
    return Archives(rig, directory)


def check(taken: Taken, refused: str | None, expected: dict[str, str]) -> None:
    if refused is not None:
        assert not taken.accepted, f"known to refuse it ({refused}), but: {taken.images}"
        return
    assert taken.accepted, taken.text
    assert taken.images == expected, taken.text


def cases(*consumers: str, formats: tuple[str, ...]) -> list[tuple[str, str, str]]:
    return [
        (archive_format, consumer, name)
        for archive_format in formats
        for name in sorted(loadable())
        for consumer in consumers
        if name != "many-layers" or archive_format == "docker-archive" or consumer not in SLOW_PER_LAYER
    ]


@pytest.mark.parametrize(
    ("archive_format", "consumer", "name"),
    [
        *cases("docker", "podman", "ctr", "skopeo", formats=DOCKER_FORMATS),
        *cases("podman", "ctr", "skopeo-oci", formats=("oci-archive",)),
    ],
)
def test_a_consumer_takes_the_archive_under_its_name_with_the_right_id(
    archives: Archives,
    consumers: Consumers,
    archive_format: str,
    consumer: str,
    name: str,
) -> None:
    image, reference = loadable()[name], archives.reference(name)
    archive = archives.of(archive_format, name)
    refused = REFUSED.get((archive_format, consumer), {}).get(name)
    expected = {reference: image.config_digest}
    match consumer:
        case "ctr":
            taken = consumers.ctr.take(archive)
            check(consumers.ctr.by_config(taken), refused, expected)
            if refused is None and archive_format in {"docker-archive-compressed", "oci-archive"}:
                assert taken.images == {reference: image.digest}
        case "skopeo" | "skopeo-oci":
            reader = consumers.skopeo if consumer == "skopeo" else consumers.skopeo_oci
            check(reader.take(archive), refused, {image.config_digest: image.config_digest})
        case "docker":
            check(consumers.docker.take(archive), refused, expected)
        case _:
            check(consumers.podman.take(archive), refused, expected)


@pytest.mark.parametrize("name", ["plain", "oci"])
def test_an_oci_archive_is_none_that_readers_of_docker_archives_take(
    archives: Archives, docker: Docker, skopeo: Skopeo, name: str
) -> None:
    archive = archives.of("oci-archive", name)
    assert not docker.take(archive).accepted
    assert not skopeo.take(archive).accepted


def ref_name(layout: Path, reference: str) -> str:
    """What `index.json` calls the image towards tools that take `PATH:NAME`."""
    entries = json.loads((layout / "index.json").read_bytes())["manifests"]
    (annotations,) = [
        entry["annotations"]
        for entry in entries
        if entry["annotations"]["io.containerd.image.name"] == reference
    ]
    name: str = annotations["org.opencontainers.image.ref.name"]
    return name


@pytest.mark.parametrize("name", sorted(loadable()))
def test_umoci_and_skopeo_find_each_image_in_the_oci_directory(
    archives: Archives, umoci: Umoci, skopeo_layout: Skopeo, tmp_path: Path, name: str
) -> None:
    layout = archives.of("oci", name)
    reference = ref_name(layout, archives.reference(name))
    unpacked = umoci.unpack(layout, reference, tmp_path / "bundle")
    refused = REFUSED[("oci", "umoci")].get(name)
    assert (unpacked.returncode != 0) == (refused is not None), unpacked.stderr
    taken = skopeo_layout.take(layout, reference)
    check(taken, REFUSED[("oci", "skopeo-oci")].get(name), {reference: loadable()[name].config_digest})


@pytest.mark.parametrize("archive_format", ["docker-archive", "docker-archive-compressed", "docker-legacy"])
def test_several_images_in_one_tar_are_all_loaded(
    archives: Archives,
    consumers: Consumers,
    tmp_path: Path,
    archive_format: str,
) -> None:
    wanted = {
        archives.reference(name): loadable()[name] for name in ("plain", "one-layer", "same-layer-twice")
    }
    all_tar = pull_together(archives, archive_format, wanted, tmp_path)
    ids = {reference: image.config_digest for reference, image in wanted.items()}
    assert consumers.docker.take(all_tar).images == ids
    assert consumers.podman.take(all_tar).images == ids
    assert consumers.ctr.by_config(consumers.ctr.take(all_tar)).images == ids
    for name, reference in ((name, archives.reference(name)) for name in SEVERAL):
        is_linked = archive_format == "docker-legacy" and name != SEVERAL[0]
        refused = READ_THROUGH_LINK if is_linked else None
        check(consumers.skopeo.take(all_tar, reference), refused, {reference: ids[reference]})


def test_several_images_in_one_oci_archive_are_all_there(
    archives: Archives, ctr: Ctr, tmp_path: Path
) -> None:
    wanted = {archives.reference(name): loadable()[name] for name in ("plain", "oci", "one-layer")}
    all_tar = pull_together(archives, "oci-archive", wanted, tmp_path)
    assert ctr.take(all_tar).images == {reference: image.digest for reference, image in wanted.items()}


def pull_together(
    archives: Archives, archive_format: str, wanted: dict[str, BuiltImage], directory: Path
) -> Path:
    cwd = directory / "work"
    cwd.mkdir()
    result = archives.rig.run_cli("pull", *wanted, *FORMATS[archive_format], "-o", "all.tar", cwd=cwd)
    assert result.returncode == 0, result.stderr
    return cwd / "all.tar"


@pytest.mark.parametrize("archive_format", FORMATS)
def test_a_second_run_writes_the_same_bytes(archives: Archives, tmp_path: Path, archive_format: str) -> None:
    names = ("same-layer-twice", "zstd", "empty-layers")
    target = tmp_path / "work"
    target.mkdir()
    references = map(archives.reference, names)
    result = archives.rig.run_cli("pull", *references, *FORMATS[archive_format], "-o", target, cwd=target)
    assert result.returncode == 0, result.stderr
    for name in names:
        first = archives.of(archive_format, name)
        if archive_format == "oci":
            blobs = {path.name for path in (target / "blobs/sha256").iterdir()}
            assert blobs < {path.name for path in (first / "blobs/sha256").iterdir()}
        else:
            assert (target / first.name).read_bytes() == first.read_bytes()


@pytest.mark.parametrize("archive_format", FORMATS)
def test_verify_finds_nothing_wrong_with_what_pull_wrote(
    archives: Archives, tmp_path: Path, archive_format: str
) -> None:
    paths = {archives.of(archive_format, name) for name in loadable()}
    cwd = tmp_path / "work"
    cwd.mkdir()
    result = archives.rig.run_cli("verify", *sorted(paths), cwd=cwd)
    assert result.returncode == 0, result.stdout + result.stderr


def test_verify_understands_what_docker_and_skopeo_wrote(
    archives: Archives, docker: Docker, skopeo: Skopeo, tmp_path: Path
) -> None:
    cwd = tmp_path / "work"
    cwd.mkdir()
    reference = archives.reference("same-layer-twice")
    docker.take(archives.of("docker-archive", "same-layer-twice"))
    docker.output("save", "--output", cwd / "docker.tar", reference)
    skopeo.convert(
        archives.of("docker-archive", "same-layer-twice"), f"docker-archive:{cwd}/skopeo.tar:{reference}"
    )
    skopeo.convert(archives.of("docker-archive", "same-layer-twice"), f"oci-archive:{cwd}/oci.tar:1.0")
    result = archives.rig.run_cli("verify", *sorted(cwd.iterdir()), cwd=cwd)
    assert result.returncode == 0, result.stdout + result.stderr
