"""The rig is what it claims to be: seen with clients that nobody here wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.standin.zoo import loadable

from .consumers import Consumers
from .daemons import DEBIAN_PATH, program
from .rig import API_HOST, REGISTRY_HOST, STORAGE_HOST, Rig
from .servers import TOKEN_CALL


def test_skopeo_pulls_through_the_redirect_and_three_engines_take_what_it_wrote(
    rig: Rig, consumers: Consumers, tmp_path: Path
) -> None:
    image = loadable()["plain"]
    rig.publish(image, "rig/plain", "1.0")
    archive = tmp_path / "plain.tar"
    reference = rig.reference("rig/plain", "1.0")
    env = {"PATH": DEBIAN_PATH, "HOME": str(tmp_path), "SSL_CERT_FILE": str(rig.ca_file)}
    login = ["--authfile", str(rig.docker_config / "config.json")]
    copy = [program("skopeo", package="skopeo"), "copy", *login, f"docker://{reference}"]
    with rig.witnessed() as seen:
        result = rig.run([*copy, f"docker-archive:{archive}:{reference}"], env=env)
    assert result.returncode == 0, result.stderr
    fetched = {
        served.path.split("/")[-2] for served in seen if served.host == STORAGE_HOST and served.status == 200
    }
    assert fetched == {blob.digest[7:] for blob in image.layers} | {image.config_digest[7:]}
    for engine in (consumers.docker, consumers.podman):
        assert engine.take(archive).images == {reference: image.config_digest}
    ctr = consumers.ctr
    taken = ctr.take(archive)
    assert list(taken.images) == [reference], taken.text
    assert ctr.config_digest(taken.images[reference]) == image.config_digest
    assert consumers.skopeo.take(archive).images == {image.config_digest: image.config_digest}


@pytest.mark.parametrize(
    ("url", "flags", "status"),
    [
        (f"https://{REGISTRY_HOST}/v2/", [], "401"),
        (f"https://{REGISTRY_HOST}/v2/", ["--user", "AWS:wrong"], "401"),
        (f"https://{STORAGE_HOST}/docker/registry/v2/repositories/", [], "403"),
        (
            f"https://{STORAGE_HOST}/docker/registry/v2/blobs/x",
            ["--header", "Authorization: Basic eDp5"],
            "400",
        ),
        (f"https://{STORAGE_HOST}/docker/registry/v2/blobs/x", [], "404"),
    ],
)
def test_each_host_answers_under_its_name_and_refuses_what_aws_refuses(
    rig: Rig, url: str, flags: list[str], status: str
) -> None:
    curl = [
        program("curl", package="curl"),
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
    ]
    result = rig.run([*curl, "--cacert", str(rig.ca_file), *flags, url], env={"PATH": DEBIAN_PATH})
    assert result.stdout == status, result.stderr


def test_manifest_and_config_are_served_byte_for_byte(rig: Rig, tmp_path: Path) -> None:
    env = {"PATH": DEBIAN_PATH, "HOME": str(tmp_path), "SSL_CERT_FILE": str(rig.ca_file)}
    image = loadable()["json-escapes"]
    rig.publish(image, "rig/json-escapes", "1.0")
    login = ["--authfile", str(rig.docker_config / "config.json")]
    inspect = [program("skopeo", package="skopeo"), "inspect", *login]
    source = f"docker://{rig.reference('rig/json-escapes', '1.0')}"
    assert rig.run([*inspect, "--raw", source], env=env).stdout.encode() == image.manifest_raw
    config = rig.run([*inspect, "--config", "--raw", source], env=env).stdout
    assert json.loads(config) == json.loads(image.config_raw)
    assert config.encode() == image.config_raw


def test_the_token_api_answers_under_its_name(rig: Rig) -> None:
    curl = [program("curl", package="curl"), "--silent", "--show-error", "--cacert", str(rig.ca_file)]
    headers = [flag for key, value in TOKEN_CALL.items() for flag in ("--header", f"{key}: {value}")]
    result = rig.run([*curl, "--data", "{}", *headers, f"https://{API_HOST}/"], env={"PATH": DEBIAN_PATH})
    (data,) = json.loads(result.stdout)["authorizationData"]
    login = json.loads((rig.docker_config / "config.json").read_text())["auths"][REGISTRY_HOST]["auth"]
    assert data["authorizationToken"] == login
