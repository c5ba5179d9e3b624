"""One command against the rig, and the tar that comes of it in the hands of a real engine."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.standin.documents import make_helm_chart
from tests.standin.images import BuiltImage, ImageBuilder
from tests.standin.machine_image import Shape, build
from tests.standin.zoo import zoo

from .consumers import Docker, Skopeo
from .rig import ACCOUNT, API_HOST, REGION, REGISTRY_HOST, STORAGE_HOST, Rig, Served

MIB = 1024 * 1024
REPOSITORY = "team/backend/app"


@pytest.fixture(scope="module")
def image(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    """Real files in several layers, one far larger than the rest; published as `team/backend/app:1.0`."""
    built = build(tmp_path_factory.mktemp("image"), Shape(total_tar_bytes=60 * MIB, layers=5))
    rig.publish(built, REPOSITORY, "1.0", "latest")
    return built


@pytest.fixture(scope="module")
def small(rig: Rig) -> BuiltImage:
    built = (
        ImageBuilder().layer([("a", b"first layer " * 3000)]).layer([("b", b"second layer " * 3000)]).build()
    )
    rig.publish(built, "team/small", "1.0", "latest")
    return built


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*"))


def archive_manifest(archive: Path) -> dict[str, object]:
    with tarfile.open(archive) as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        (entry,) = json.loads(member.read())
    assert isinstance(entry, dict)
    return entry


def assert_one_line_error(result: subprocess.CompletedProcess[str], code: int) -> None:
    """The progress lines end with one error, and nothing else has been said in passing."""
    assert result.returncode == code, result.stdout + result.stderr
    *before, last = result.stderr.splitlines()
    assert last.startswith("ecr-async-pull: "), result.stderr
    assert not [line for line in before if line.startswith(("ecr-async-pull:", "Traceback", " "))], (
        result.stderr
    )


def sent_by_digest(seen: list[Served]) -> Counter[str]:
    """Bytes that the storage host has sent, by the blob's hex."""
    sent: Counter[str] = Counter()
    for served in seen:
        if served.host == STORAGE_HOST:
            assert served.status in {200, 206}, served
            sent[served.path.split("/")[-2]] += served.sent_bytes
    return sent


def test_a_tag_becomes_a_tar_that_docker_loads_under_that_tag_with_the_right_id(
    rig: Rig, docker: Docker, skopeo: Skopeo, image: BuiltImage, cwd: Path
) -> None:
    reference = rig.reference(REPOSITORY, "1.0")
    with rig.witnessed() as seen:
        result = rig.run_cli(reference, cwd=cwd)
    assert result.returncode == 0, result.stderr
    assert listing(cwd) == ["app-1.0.tar"]
    archive = cwd / "app-1.0.tar"

    taken = docker.take(archive)
    assert taken.images == {reference: image.config_digest}, taken.text
    assert f"Loaded image: {reference}" in taken.text

    inspected = skopeo.inspect(archive, "--config", "--raw")
    assert inspected.stdout.encode() == image.config_raw
    assert json.loads(skopeo.inspect(archive).stdout)["Layers"] == [layer.diff_id for layer in image.layers]
    assert skopeo.take(archive).images == {image.config_digest: image.config_digest}

    assert len([served for served in seen if served.host == API_HOST]) == 1
    sizes = {layer.digest[7:]: layer.size_bytes for layer in image.layers}
    sent = sent_by_digest(seen)
    assert {hex_digits: sent[hex_digits] for hex_digits in sizes} == sizes
    assert set(sent) <= {*sizes, image.config_digest[7:]}


def test_two_runs_write_the_same_bytes(rig: Rig, image: BuiltImage, cwd: Path) -> None:
    for name in ("first.tar", "second.tar"):
        result = rig.run_cli("pull", rig.reference(REPOSITORY, "1.0"), "-o", cwd / name, cwd=cwd)
        assert result.returncode == 0, result.stderr
    assert (cwd / "first.tar").read_bytes() == (cwd / "second.tar").read_bytes()


def test_a_digest_is_loaded_under_its_hex_as_tag(
    rig: Rig, docker: Docker, small: BuiltImage, cwd: Path
) -> None:
    result = rig.run_cli("pull", f"{REGISTRY_HOST}/team/small@{small.digest}", cwd=cwd)
    assert result.returncode == 0, result.stderr
    hex_digits = small.digest.removeprefix("sha256:")
    assert listing(cwd) == [f"small-{hex_digits}.tar"]
    name = f"{REGISTRY_HOST}/team/small:{hex_digits}"
    assert archive_manifest(cwd / f"small-{hex_digits}.tar")["RepoTags"] == [name]
    taken = docker.take(cwd / f"small-{hex_digits}.tar")
    assert taken.images == {name: small.config_digest}
    assert "invalid reference format" not in taken.text


def test_a_tag_with_a_digest_keeps_the_tag(rig: Rig, docker: Docker, small: BuiltImage, cwd: Path) -> None:
    result = rig.run_cli(
        "pull", f"{rig.reference('team/small', '1.0')}@{small.digest}", "-o", "x.tar", cwd=cwd
    )
    assert result.returncode == 0, result.stderr
    assert docker.take(cwd / "x.tar").images == {rig.reference("team/small", "1.0"): small.config_digest}


def test_no_tag_means_latest(rig: Rig, docker: Docker, small: BuiltImage, cwd: Path) -> None:
    result = rig.run_cli(f"{REGISTRY_HOST}/team/small", cwd=cwd)
    assert result.returncode == 0, result.stderr
    assert listing(cwd) == ["small-latest.tar"]
    loaded = docker.take(cwd / "small-latest.tar").images
    assert loaded == {rig.reference("team/small", "latest"): small.config_digest}


def test_the_platform_asked_for_is_taken_from_an_index(rig: Rig, docker: Docker, cwd: Path) -> None:
    index = zoo()["two-platforms"]
    rig.publish(index, "team/multi", "1.0")
    reference = rig.reference("team/multi", "1.0")
    result = rig.run_cli("pull", reference, "--platform", "linux/arm64", "-o", "arm.tar", cwd=cwd)
    assert result.returncode == 0, result.stderr
    arm = index.child("linux/arm64")
    assert docker.take(cwd / "arm.tar").images == {reference: arm.config_digest}
    refused = rig.run_cli("pull", reference, "--platform", "linux/s390x", "-o", "s390x.tar", cwd=cwd)
    assert_one_line_error(refused, 4)
    assert "linux/amd64" in refused.stderr
    assert "linux/arm64" in refused.stderr
    assert listing(cwd) == ["arm.tar"]


def test_several_references_share_one_token_and_each_blob_comes_once(
    rig: Rig, docker: Docker, small: BuiltImage, cwd: Path
) -> None:
    sibling = ImageBuilder().add(*small.layers).layer([("c", b"third layer " * 3000)]).build()
    rig.publish(sibling, "team/sibling", "2.0")
    references = [rig.reference("team/small", "1.0"), rig.reference("team/sibling", "2.0")]
    target = cwd / "archives"
    target.mkdir()
    with rig.witnessed() as seen:
        result = rig.run_cli("pull", *references, "-o", target, cwd=cwd)
    assert result.returncode == 0, result.stderr
    assert listing(target) == ["sibling-2.0.tar", "small-1.0.tar"]
    assert len([served for served in seen if served.host == API_HOST]) == 1
    sent = sent_by_digest(seen)
    assert {layer.digest: sent[layer.digest[7:]] for layer in sibling.layers} == {
        layer.digest: layer.size_bytes for layer in sibling.layers
    }
    assert docker.take(target / "small-1.0.tar").images == {references[0]: small.config_digest}
    assert docker.take(target / "sibling-2.0.tar").images == {references[1]: sibling.config_digest}


def test_the_endpoint_variable_moves_the_token_call(rig: Rig, small: BuiltImage, cwd: Path) -> None:
    env = {"AWS_ENDPOINT_URL_ECR": rig.moto_url}
    with rig.witnessed() as seen:
        result = rig.run_cli(rig.reference("team/small", "1.0"), cwd=cwd, env=env)
    assert result.returncode == 0, result.stderr
    assert not [served for served in seen if served.host == API_HOST]


def test_ssl_cert_file_serves_all_three_hosts(rig: Rig, small: BuiltImage, cwd: Path) -> None:
    env = {"AWS_CA_BUNDLE": None, "SSL_CERT_FILE": str(rig.ca_file)}
    result = rig.run_cli(rig.reference("team/small", "1.0"), cwd=cwd, env=env)
    assert result.returncode == 0, result.stderr


def _first_layer(image: BuiltImage) -> tuple[str, int]:
    return image.layers[0].digest, 0


def _middle_of_the_largest_layer(image: BuiltImage) -> tuple[str, int]:
    largest = max(image.layers, key=lambda layer: layer.size_bytes)
    return largest.digest, largest.size_bytes // 2


def _gzip_header_time(image: BuiltImage) -> tuple[str, int]:
    """No inflater minds this one."""
    return image.layers[-1].digest, 4


def _last_byte(image: BuiltImage) -> tuple[str, int]:
    return image.layers[-1].digest, image.layers[-1].size_bytes - 1


def _config(image: BuiltImage) -> tuple[str, int]:
    return image.config_digest, image.config_raw.index(b"PATH=")


def _manifest(image: BuiltImage) -> tuple[str, int]:
    """A digit of a size: still a manifest."""
    return image.digest, image.manifest_raw.index(b'"size": ') + len(b'"size": ')


@pytest.mark.parametrize(
    "place",
    [_first_layer, _middle_of_the_largest_layer, _gzip_header_time, _last_byte, _config, _manifest],
)
def test_a_flipped_bit_anywhere_is_refused_and_nothing_is_left(
    rig: Rig, image: BuiltImage, cwd: Path, place: Callable[[BuiltImage], tuple[str, int]]
) -> None:
    with rig.flipped(*place(image)):
        result = rig.run_cli(rig.reference(REPOSITORY, "1.0"), cwd=cwd)
    assert_one_line_error(result, 5)
    assert listing(cwd) == []


def test_an_existing_file_outlives_a_failed_pull(rig: Rig, small: BuiltImage, cwd: Path) -> None:
    target = cwd / "small-1.0.tar"
    target.write_bytes(b"what was there")
    with rig.flipped(small.layers[1].digest, 100):
        assert rig.run_cli(rig.reference("team/small", "1.0"), cwd=cwd).returncode == 5
    assert listing(cwd) == [target.name]
    assert target.read_bytes() == b"what was there"
    assert rig.run_cli(rig.reference("team/small", "1.0"), cwd=cwd).returncode == 0
    assert archive_manifest(target)["RepoTags"] == [rig.reference("team/small", "1.0")]


@pytest.mark.parametrize(
    ("reference", "code", "told"),
    [
        (f"{REGISTRY_HOST}/team/small:nope", 4, "nope"),
        (f"{REGISTRY_HOST}/team/none:1.0", 4, "team/none"),
        (f"{REGISTRY_HOST}/team/small@sha256:{'0' * 64}", 4, "0000"),
        (f"{REGISTRY_HOST}/team/chart:1.0", 4, "team/chart"),
        (f"{REGISTRY_HOST}/team/lost:1.0", 4, "team/lost"),
        (f"{REGISTRY_HOST}/Team/Small:1.0", 2, "lower case"),
        (f"{REGISTRY_HOST}/team/small:bad tag", 2, "bad tag"),
        (f"https://{REGISTRY_HOST}/team/small:1.0", 2, "https://"),
    ],
)
@pytest.mark.usefixtures("small")
def test_what_cannot_be_pulled_is_one_line_and_the_right_code(
    rig: Rig, cwd: Path, reference: str, code: int, told: str
) -> None:
    rig.publish(make_helm_chart(), "team/chart", "1.0")
    lost = ImageBuilder().layer([("lost", b"the registry has no bytes of this" * 9)]).build()
    rig.publish(lost, "team/lost", "1.0")
    rig.blob_path(lost.layers[0].digest).unlink()
    result = rig.run_cli(reference, cwd=cwd)
    assert_one_line_error(result, code)
    assert told in result.stderr
    assert listing(cwd) == []


def test_an_unknown_host_is_a_registry_error(rig: Rig, cwd: Path) -> None:
    reference = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/team/small:1.0"
    result = rig.run_cli(reference, cwd=cwd, env={"AWS_ENDPOINT_URL_ECR": rig.moto_url})
    assert_one_line_error(result, 4)
    assert listing(cwd) == []


def test_no_credentials_is_an_auth_error(rig: Rig, small: BuiltImage, cwd: Path) -> None:
    env = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    result = rig.run_cli(rig.reference("team/small", "1.0"), cwd=cwd, env=env)
    assert_one_line_error(result, 3)
    assert listing(cwd) == []


def test_a_host_with_a_certificate_of_an_unknown_ca_gets_no_token(
    rig: Rig, small: BuiltImage, cwd: Path
) -> None:
    env = {"AWS_CA_BUNDLE": None, "AWS_ENDPOINT_URL_ECR": rig.moto_url}
    result = rig.run_cli(rig.reference("team/small", "1.0"), cwd=cwd, env=env)
    assert_one_line_error(result, 4)
    assert "certificate" in result.stderr
    assert listing(cwd) == []


def test_a_directory_that_is_not_there_is_a_storage_error(rig: Rig, small: BuiltImage, cwd: Path) -> None:
    result = rig.run_cli("pull", rig.reference("team/small", "1.0"), "-o", "none/x.tar", cwd=cwd)
    assert_one_line_error(result, 6)
    assert listing(cwd) == []


def test_secrets_stay_out_of_the_most_talkative_output(rig: Rig, small: BuiltImage, cwd: Path) -> None:
    result = rig.run_cli("pull", "-v", rig.reference("team/small", "1.0"), cwd=cwd)
    assert result.returncode == 0, result.stderr
    said = result.stdout + result.stderr
    login = json.loads((rig.docker_config / "config.json").read_text())["auths"][REGISTRY_HOST]["auth"]
    assert login not in said
    assert "auth-token" not in said
    assert "Authorization" not in said
    assert REGION in said
