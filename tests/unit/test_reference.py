"""Image references: the grammar of distribution/reference, as people type them."""

from __future__ import annotations

import pytest

from ecr_async_pull.errors import ReferenceError, UsageError  # noqa: A004
from ecr_async_pull.model.reference import ImageReference

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest_hex"),
    [
        (f"{ECR}/app:1.2", ECR, "app", "1.2", None),
        (f"{ECR}/team/sub/app", ECR, "team/sub/app", "latest", None),
        (f"{ECR}/app@sha256:{HEX}", ECR, "app", None, HEX),
        (f"{ECR}/app:1@sha256:{HEX}", ECR, "app", "1", HEX),
        ("localhost:5000/a__b/c---d.e:T_.-x", "localhost:5000", "a__b/c---d.e", "T_.-x", None),
        ("localhost/app", "localhost", "app", "latest", None),
        ("[::1]:5000/app:x", "[::1]:5000", "app", "x", None),
        ("ubuntu", "docker.io", "library/ubuntu", "latest", None),
        ("index.docker.io/ubuntu:24.04", "docker.io", "library/ubuntu", "24.04", None),
        ("team/app", "docker.io", "team/app", "latest", None),
    ],
)
def test_parts_are_found(
    text: str, registry: str, repository: str, tag: str | None, digest_hex: str | None
) -> None:
    reference = ImageReference.parse(text)
    assert (reference.registry, reference.repository, reference.tag) == (registry, repository, tag)
    assert (reference.digest.hex if reference.digest else None) == digest_hex


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        f"{ECR}/",
        f"{ECR}/a//b",
        f"{ECR}/-a",
        f"{ECR}/a..b",
        f"{ECR}/a___b",
        f"{ECR}/app:",
        f"{ECR}/app:-x",
        f"{ECR}/app:{'x' * 129}",
        f"{ECR}/app:a:b",
        f"{ECR}/app\n",
        f"{ECR}/app@sha256:abc",
        f"{ECR}/app@sha256:{HEX.upper()}",
        f"{ECR}/app@",
        f"{ECR}/{'a' * 256}",
        "host:99999/app",
        "host_name:1/app",
        "a" * 64,
    ],
)
def test_a_malformed_reference_is_a_usage_error_that_quotes_it(text: str) -> None:
    with pytest.raises(ReferenceError) as caught:
        ImageReference.parse(text)
    assert isinstance(caught.value, UsageError)
    assert caught.value.text == text
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (f"{ECR}/MyApp", "'myapp'"),
        (f"https://{ECR}/app", "leave out the https://"),
        (ECR, "no repository"),
        (f"{ECR}:latest", "no repository"),
    ],
)
def test_common_slips_get_their_own_advice(text: str, advice: str) -> None:
    with pytest.raises(ReferenceError, match=advice):
        ImageReference.parse(text)


def test_the_file_name_comes_from_the_last_part_and_the_tag_or_hex() -> None:
    assert ImageReference.parse(f"{ECR}/team/app:1.2").default_stem == "app-1.2"
    assert ImageReference.parse(f"{ECR}/team/app@sha256:{HEX}").default_stem == f"app-{HEX}"


def test_engines_know_hub_images_by_their_short_names() -> None:
    assert ImageReference.parse("docker.io/library/ubuntu").familiar_name == "ubuntu"
    assert ImageReference.parse(f"{ECR}/library/ubuntu").familiar_name == f"{ECR}/library/ubuntu"
