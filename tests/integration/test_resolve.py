"""From references to images: platforms, indexes, artifacts and what a second pull need not ask for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import (
    AuthError,
    IntegrityError,
    NotFoundError,
    PlatformError,
    PullError,
    UnsupportedImageError,
)
from ecr_async_pull.model.image import ResolvedImage
from ecr_async_pull.model.platform import Platform
from ecr_async_pull.model.reference import ImageReference
from ecr_async_pull.registry.resolve import resolve
from tests.integration.registry_stub import client_of
from tests.standin.documents import make_artifact, make_attestation, make_helm_chart, make_index, make_schema1
from tests.standin.faults import ExpireToken, Flip, Status
from tests.standin.images import BuiltImage, ImageBuilder
from tests.standin.server import StandIn


@pytest.fixture(scope="module")
def open_registry() -> Iterator[StandIn]:
    """A registry that wants no login."""
    with StandIn.threaded(authentication="anonymous") as running:
        yield running


@pytest.fixture
def server(open_registry: StandIn) -> StandIn:
    open_registry.requests.clear()
    open_registry.faults.clear()
    return open_registry


class Kept:
    """A document store in memory."""

    def __init__(self) -> None:
        self.documents: dict[Digest, tuple[bytes, str]] = {}

    async def get(self, digest: Digest) -> tuple[bytes, str] | None:
        return self.documents.get(digest)

    async def put(self, digest: Digest, media_type: str, raw: bytes) -> None:
        self.documents[digest] = (raw, media_type)


def image(platform: str = "linux/amd64") -> BuiltImage:
    return ImageBuilder(oci=True, platform=platform).layer([("platform", platform.encode())]).build()


def look_up(
    server: StandIn, text: str, *, platform: str | None = None, registry: str | None = None, **options: Any
) -> ResolvedImage:
    """Resolve `<registry>/<text>`; the client's options are the stand-in's."""
    registry = registry or server.registry_host
    client_options = {name: options.pop(name) for name in ("token_cache_dir",) if name in options}

    async def run() -> ResolvedImage:
        async with client_of(
            registry, plain_http=False, ca_file=server.ca_file, environment=dict(os.environ), **client_options
        ) as client:
            return await resolve(
                client,
                ImageReference.parse(f"{registry}/{text}"),
                platform=None if platform is None else Platform.parse(platform),
                **{"is_all_platforms": False, "with_attestations": False, "names": None, **options},
            )

    return asyncio.run(run())


def test_a_manifest_becomes_an_image_with_its_layers_in_order(server: StandIn) -> None:
    built = ImageBuilder().layer([("a", b"1")]).layer([("b", b"2")]).build()
    digest = server.add("team/app", "1", built)
    resolved = look_up(server, "team/app:1")
    assert str(resolved.target.digest) == digest
    assert resolved.target.size_bytes == len(built.manifest_raw)
    assert resolved.indexes == ()
    assert resolved.image.config_raw == built.config_raw
    assert [str(layer.diff_id) for layer in resolved.image.layers] == [
        layer.diff_id for layer in built.layers
    ]
    assert [layer.position for layer in resolved.image.layers] == [0, 1]
    assert resolved.names == (f"{server.registry_host}/team/app:1",)


@pytest.mark.parametrize("wanted", ["linux/amd64", "linux/arm64", "linux/arm/v7"])
def test_the_wanted_platform_is_found_in_nested_indexes(server: StandIn, wanted: str) -> None:
    inner = make_index([image("linux/arm64/v8"), image("linux/arm/v6")])
    server.add("nested", "1", make_index([make_attestation(image()), image(), inner]))
    resolved = look_up(server, "nested:1", platform=wanted)
    assert resolved.image.config is not None
    found = {"linux/arm64": "linux/arm64/v8", "linux/arm/v7": "linux/arm/v6"}.get(wanted, wanted)
    assert (
        resolved.image.config.platform == Platform.parse(found)
        or str(resolved.image.config.platform) == found
    )
    assert len(resolved.indexes) == (1 if wanted == "linux/amd64" else 2)
    assert resolved.target.digest == resolved.indexes[0].digest


def test_a_missing_platform_lists_those_that_there_are(server: StandIn) -> None:
    index = make_index([image(), make_attestation(image()), make_index([image("linux/arm/v7")])])
    server.add("some", "1", index)
    with pytest.raises(PlatformError) as caught:
        look_up(server, "some:1", platform="linux/s390x")
    assert set(caught.value.available) == {"linux/amd64", "linux/arm/v7"}
    assert "--platform" in str(caught.value)


def test_an_entry_without_platform_is_judged_by_its_config(server: StandIn) -> None:
    bare = [replace(image(platform), platform=None) for platform in ("linux/s390x", "linux/ppc64le")]
    server.add("bare", "1", make_index(bare))
    resolved = look_up(server, "bare:1", platform="linux/ppc64le")
    assert str(resolved.image.manifest.digest) == bare[1].digest
    with pytest.raises(PlatformError, match="linux/s390x, linux/ppc64le"):
        look_up(server, "bare:1", platform="linux/riscv64")


def test_a_single_manifest_is_taken_as_it_is_unless_another_platform_was_asked_for(server: StandIn) -> None:
    server.add("single", "1", image("linux/s390x"))
    assert look_up(server, "single:1").image.config is not None
    with pytest.raises(PlatformError, match="linux/s390x"):
        look_up(server, "single:1", platform="linux/amd64")


@pytest.mark.parametrize(
    "stated",
    [{"os.features": ["f"]}, {"os": None}, {"architecture": None}, {"architecture": "", "variant": "v8"}],
)
def test_a_single_manifest_may_leave_its_platform_out_or_add_features(
    server: StandIn, stated: dict[str, object]
) -> None:
    server.add("single", "1", ImageBuilder().layer([("a", b"a")]).config(stated).build())
    assert look_up(server, "single:1", platform="linux/amd64").image.config is not None


def test_an_index_that_nests_too_deep_is_refused(server: StandIn) -> None:
    nested = image()
    for _ in range(6):
        nested = make_index([nested])
    server.add("deep", "1", nested)
    for is_all_platforms in (False, True):
        with pytest.raises(UnsupportedImageError, match="deep"):
            look_up(server, "deep:1", platform="linux/amd64", is_all_platforms=is_all_platforms)


def test_attestations_come_along_when_asked_for(server: StandIn) -> None:
    amd64, arm64 = image(), image("linux/arm64")
    server.add("proven", "1", make_index([amd64, make_attestation(arm64), arm64, make_attestation(amd64)]))
    resolved = look_up(server, "proven:1", platform="linux/amd64", with_attestations=True)
    (attestation,) = resolved.others
    assert str(attestation.manifest.digest) == make_attestation(amd64).digest
    assert attestation.config is None
    assert [layer.diff_id for layer in attestation.layers] == [None]
    assert look_up(server, "proven:1", platform="linux/amd64").others == ()


def test_all_platforms_are_everything_that_is_listed_once(server: StandIn) -> None:
    amd64, arm64, arm = image(), image("linux/arm64"), image("linux/arm/v7")
    server.add("all", "1", make_index([amd64, make_attestation(amd64), make_index([arm64, amd64, arm])]))
    resolved = look_up(server, "all:1", platform="linux/arm64", is_all_platforms=True)
    assert str(resolved.image.manifest.digest) == arm64.digest
    others = [str(other.manifest.digest) for other in resolved.others]
    assert sorted(others) == sorted([amd64.digest, arm.digest, make_attestation(amd64).digest])
    assert len(resolved.indexes) == 2
    assert resolved.is_all_platforms


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (make_helm_chart, "Helm chart"),
        (make_artifact, "artifact"),
        (lambda: make_schema1(image()), "re-pushed"),
    ],
)
def test_what_is_no_image_is_refused_by_its_name(
    server: StandIn, make: Callable[[], BuiltImage], advice: str
) -> None:
    server.add("other", "1", make())
    with pytest.raises(UnsupportedImageError, match=advice) as caught:
        look_up(server, "other:1")
    assert str(caught.value).isprintable()
    assert not [request for request in server.requests if "/blobs/" in request.path]


def test_encrypted_layers_are_refused(server: StandIn) -> None:
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
    server.add("secret", "1", ImageBuilder(oci=True).layer([("a", b"")], media_type=media_type).build())
    with pytest.raises(UnsupportedImageError, match="encrypted"):
        look_up(server, "secret:1")


def test_a_config_that_lists_other_layers_than_the_manifest_is_an_integrity_error(server: StandIn) -> None:
    built = ImageBuilder().layer([("a", b"")]).config({"rootfs": {"type": "layers", "diff_ids": []}}).build()
    server.add("odd", "1", built)
    with pytest.raises(IntegrityError, match="re-pushed"):
        look_up(server, "odd:1")


def test_a_flipped_bit_in_a_manifest_by_digest_or_in_a_config_is_refused(server: StandIn) -> None:
    built = image()
    digest = server.add("flip", "1", built)
    server.faults.add(Flip(5), digest=digest)
    with pytest.raises(IntegrityError):
        look_up(server, f"flip@{digest}")
    server.faults.clear()
    server.faults.add(Flip(5), digest=built.config_digest)
    with pytest.raises(IntegrityError):
        look_up(server, "flip:1")


def test_beside_a_digest_the_tag_is_only_a_name(server: StandIn) -> None:
    digest = server.add("both", "1", image())
    resolved = look_up(server, f"both:anything@{digest}")
    assert str(resolved.target.digest) == digest
    assert resolved.names == (f"{server.registry_host}/both:anything",)
    assert look_up(server, f"both@{digest}").names == (f"{server.registry_host}/both:{digest[7:]}",)
    assert look_up(server, "both:1", names=("x:1",)).names == ("x:1",)


def test_a_digest_that_is_not_there_yet_is_asked_for_by_its_tag_and_verified(server: StandIn) -> None:
    digest = server.add("cached", "1", image())
    missing = Status(404, code="MANIFEST_UNKNOWN")
    server.faults.add(missing, path=digest)
    assert str(look_up(server, f"cached:1@{digest}").target.digest) == digest
    server.add("cached", "1", image("linux/arm64"))
    with pytest.raises(IntegrityError, match="correct one of them"):
        look_up(server, f"cached:1@{digest}")
    with pytest.raises(NotFoundError):
        look_up(server, f"cached@{digest}")


def test_a_second_pull_asks_for_the_tags_manifest_alone(server: StandIn) -> None:
    kept = Kept()
    digest = server.add("warm", "1", make_index([image(), image("linux/arm64")]))
    first = look_up(server, "warm:1", platform="linux/amd64", documents=kept)
    server.requests.clear()
    assert look_up(server, "warm:1", platform="linux/amd64", documents=kept) == first
    assert [request.path for request in server.requests] == ["/v2/warm/manifests/1"]
    server.requests.clear()
    look_up(server, f"warm@{first.image.manifest.digest}", documents=kept)
    look_up(server, f"warm@{digest}", platform="linux/amd64", documents=kept)
    assert server.requests == []


def test_a_kept_document_that_was_damaged_is_fetched_again(server: StandIn) -> None:
    kept = Kept()
    built = image()
    server.add("damaged", "1", built)
    look_up(server, "damaged:1", documents=kept)
    (config,) = [digest for digest in kept.documents if str(digest) == built.config_digest]
    kept.documents[config] = (b"{}", "x")
    assert look_up(server, "damaged:1", documents=kept).image.config_raw == built.config_raw


@pytest.fixture
def ecr(standin: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in under ECR's true names, through its proxy."""
    for name, value in standin.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(home))
    standin.add("app", "1", image())
    return standin


def asked(standin: StandIn, server: str) -> int:
    return len([request for request in standin.requests if request.server == server])


def test_ecr_is_asked_with_a_token_from_the_first_request_on(ecr: StandIn, tmp_path: Path) -> None:
    look_up(ecr, "app:1", registry=ecr.ecr_host, token_cache_dir=tmp_path)
    assert {request.status for request in ecr.requests if request.server == "registry"} == {200, 307}
    assert [request.has_authorization for request in ecr.requests if request.server == "storage"] == [False]
    look_up(ecr, "app:1", registry=ecr.ecr_host, token_cache_dir=tmp_path)
    assert asked(ecr, "token") == 1


def test_an_expired_token_is_renewed_once(ecr: StandIn, tmp_path: Path) -> None:
    ecr.faults.add(ExpireToken(), server="registry", nth=1)
    assert look_up(ecr, "app:1", registry=ecr.ecr_host, token_cache_dir=tmp_path).image.config is not None
    assert asked(ecr, "token") == 2


def test_a_token_that_is_refused_again_is_the_end(ecr: StandIn) -> None:
    ecr.faults.add(ExpireToken(), server="registry")
    with pytest.raises(AuthError, match="expired"):
        look_up(ecr, "app:1", registry=ecr.ecr_host)
    assert asked(ecr, "token") == 2


def test_a_wrong_repository_and_tag_are_told_apart(ecr: StandIn) -> None:
    with pytest.raises(NotFoundError, match="no such repository"):
        look_up(ecr, "none:1", registry=ecr.ecr_host)
    with pytest.raises(PullError, match="app:none"):
        look_up(ecr, "app:none", registry=ecr.ecr_host)
