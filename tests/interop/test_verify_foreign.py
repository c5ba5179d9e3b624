"""Archives that other programs wrote are right in the eyes of `verify`, and a flipped byte in them is not."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from ecr_async_pull.archive.verify import VerifyReport, verify
from tests.unit.test_verify import LAYERS, NAME, layer_tar, oci_files, texts, write_directory

from .consumers import Docker, Podman, Skopeo

SEVERAL = (LAYERS[0], LAYERS[1], layer_tar("third "), LAYERS[0], b"\0" * 1024)


class SavingPodman(Podman):
    def save(self, name: str, archive: Path, form: str) -> None:
        result = self._run("save", "--format", form, "--output", archive, name)
        assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def image(directory: Path) -> Path:
    """An OCI directory with one image tagged `1.2`."""
    return write_directory(directory / "foreign", oci_files(SEVERAL))


@pytest.fixture(scope="module")
def docker_archive(image: Path, directory: Path, skopeo_layout: Skopeo) -> Path:
    archive = directory / "by-skopeo.tar"
    skopeo_layout.convert(Path(f"{image}:1.2"), f"docker-archive:{archive}:{NAME}")
    return archive


def check(path: Path, *, kind: str, image_id: str, name: str = NAME) -> VerifyReport:
    """`image_id`: "" for any."""
    report = verify(path)
    assert texts(report) == []
    assert report.kind == kind
    assert len(report.images) == 1
    assert report.images[0].image_id == (image_id or report.images[0].image_id)
    assert report.images[0].names == (name,)
    assert report.images[0].layers == len(SEVERAL)
    return report


def check_flips_are_found(path: Path) -> None:
    """In the middle of every file that has bytes to spare: configs, manifests, layers, v1 ids."""
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        members = [member for member in tar if member.isreg() and member.size > 600]
    assert members
    for member in members:
        if member.name.endswith("/json"):
            continue
        position = member.offset_data + member.size // 2
        data[position] ^= 1
        path.write_bytes(data)
        assert not verify(path).is_right, member.name
        data[position] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def saving_podman(directory: Path) -> SavingPodman:
    home = directory / "saving"
    home.mkdir()
    return SavingPodman(home)


@pytest.fixture
def image_id(image: Path) -> str:
    return verify(image).images[0].image_id


def test_a_docker_archive_of_skopeo(docker_archive: Path, image_id: str, tmp_path: Path) -> None:
    check(docker_archive, kind="docker-archive", image_id=image_id)
    check_flips_are_found(Path(shutil.copy(docker_archive, tmp_path / "copy.tar")))


def test_an_oci_archive_and_an_oci_directory_of_skopeo(
    image: Path, image_id: str, tmp_path: Path, skopeo_layout: Skopeo
) -> None:
    archive, layout = tmp_path / "a.tar", tmp_path / "layout"
    skopeo_layout.convert(Path(f"{image}:1.2"), f"oci-archive:{archive}:{NAME}")
    skopeo_layout.convert(Path(f"{image}:1.2"), f"oci:{layout}:1.2")
    check(archive, kind="oci-archive", image_id=image_id)
    check(layout, kind="oci", image_id=image_id, name="1.2")
    check_flips_are_found(archive)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_archives_of_podman_save(
    saving_podman: SavingPodman, docker_archive: Path, image_id: str, tmp_path: Path, form: str
) -> None:
    taken = saving_podman.take(docker_archive)
    assert taken.accepted, taken.text
    archive = tmp_path / "saved.tar"
    saving_podman.save(NAME, archive, form)
    # Podman rewrites a Docker config where it saves it as an OCI one.
    report = check(archive, kind=form, image_id=image_id if form == "docker-archive" else "")
    assert report.images[0].tar_bytes == sum(map(len, SEVERAL))
    check_flips_are_found(archive)


def test_an_archive_of_docker_save(
    docker: Docker, docker_archive: Path, image_id: str, tmp_path: Path
) -> None:
    taken = docker.take(docker_archive)
    assert taken.accepted, taken.text
    archive = tmp_path / "saved.tar"
    docker.output("save", "--output", archive, NAME)
    check(archive, kind="docker-legacy", image_id=image_id)
    check_flips_are_found(archive)


def test_several_images_of_docker_save(docker: Docker, docker_archive: Path, tmp_path: Path) -> None:
    assert docker.take(docker_archive).accepted
    docker.output("tag", NAME, "other:2")
    docker.output("import", docker_archive, "imported:1")
    archive = tmp_path / "saved.tar"
    docker.output("save", "--output", archive, NAME, "other:2", "imported:1")
    report = verify(archive)
    assert texts(report) == []
    assert sorted(sorted(found.names) for found in report.images) == [["imported:1"], ["other:2", NAME]]
