"""Manifests and indexes as registries serve them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import IntegrityError, UnsupportedImageError
from ecr_async_pull.model.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1_SIGNED,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_TAR,
    OCI_MANIFEST,
)
from ecr_async_pull.model.manifest import Index, Manifest, parse_document

DIGEST = "sha256:" + "ab" * 32


def descriptor(**changes: Any) -> dict[str, Any]:
    return {"mediaType": OCI_LAYER_TAR, "digest": DIGEST, "size": 7, **changes}


def manifest(**changes: Any) -> bytes:
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(mediaType=OCI_CONFIG),
        "layers": [descriptor()],
    }
    body.update(changes)
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


def index(*entries: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **changes}).encode()


def test_the_bytes_and_their_own_digest_are_kept() -> None:
    raw = manifest(annotations={"a": "b"}, somethingNew={"x": [1]})
    parsed = parse_document(raw, content_type=f"{OCI_MANIFEST}; charset=utf-8")
    assert isinstance(parsed, Manifest)
    assert (parsed.raw, parsed.digest, parsed.media_type) == (raw, Digest.of(raw), OCI_MANIFEST)
    assert parsed.layers[0].size_bytes == 7
    assert dict(parsed.annotations) == {"a": "b"}


def test_an_index_keeps_its_entries_in_order_with_their_platforms() -> None:
    entry = descriptor(
        mediaType="x/unknown", platform={"os": "linux", "architecture": "arm", "variant": "v7"}
    )
    windows = descriptor(
        platform={"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": ["f"]}
    )
    parsed = parse_document(index(entry, windows), content_type=OCI_INDEX)
    assert isinstance(parsed, Index)
    assert [str(found.platform) for found in parsed.manifests] == ["linux/arm/v7", "windows/amd64"]
    platform = parsed.manifests[1].platform
    assert platform is not None
    assert (platform.os_version, platform.os_features) == ("10.0.1", ("f",))


def test_an_empty_index_is_an_index() -> None:
    parsed = parse_document(index(), content_type=OCI_INDEX)
    assert isinstance(parsed, Index)
    assert parsed.manifests == ()


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/octet-stream", "text/plain; charset=utf-8"]
)
def test_a_vague_content_type_gives_way_to_the_document(content_type: str) -> None:
    assert (
        parse_document(manifest(mediaType=DOCKER_MANIFEST), content_type=content_type).media_type
        == DOCKER_MANIFEST
    )
    assert isinstance(parse_document(manifest(mediaType=...), content_type=content_type), Manifest)
    assert isinstance(parse_document(index(mediaType=None), content_type=content_type), Index)


def test_null_stands_for_absent() -> None:
    parsed = parse_document(manifest(annotations=None, manifests=None), content_type=OCI_MANIFEST)
    assert dict(parsed.annotations) == {} if isinstance(parsed, Manifest) else False


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b'{"schemaVersion": 1, "fsLayers": [], "history": []}', DOCKER_SCHEMA1_SIGNED),
        (b'{"schemaVersion": 1, "fsLayers": []}', "application/json"),
        (manifest(fsLayers=[]), OCI_MANIFEST),
    ],
)
def test_schema_1_is_refused_with_the_way_out(raw: bytes, content_type: str) -> None:
    with pytest.raises(UnsupportedImageError, match=r"schema 1.*re-pushed"):
        parse_document(raw, content_type=content_type)


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (manifest(manifests=[]), OCI_MANIFEST),
        (index(layers=[]), OCI_INDEX),
        (index(config=descriptor()), OCI_INDEX),
        (manifest(), OCI_INDEX),
        (manifest(), DOCKER_MANIFEST),
        (manifest(mediaType=...), DOCKER_LIST),
        (manifest(mediaType=..., manifests=[]), ""),
    ],
)
def test_a_document_that_claims_two_kinds_is_refused(raw: bytes, content_type: str) -> None:
    with pytest.raises(UnsupportedImageError):
        parse_document(raw, content_type=content_type)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        manifest(schemaVersion=3),
        manifest(config=...),
        manifest(layers=...),
        manifest(layers="x"),
        manifest(layers=[{"mediaType": OCI_LAYER_TAR}]),
        manifest(mediaType="application/vnd.oci.artifact.manifest.v1+json"),
        manifest(config=descriptor(size=1.5)),
    ],
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(UnsupportedImageError):
        parse_document(raw, content_type="application/json")


@pytest.mark.parametrize(
    "bad",
    [
        {"size": -1},
        {"digest": "sha256:zz"},
        {"digest": DIGEST.upper()},
        {"digest": "../../etc/passwd"},
        {"digest": "blake3:" + "a" * 64},
    ],
)
def test_a_descriptor_that_cannot_be_verified_is_an_integrity_error(bad: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        parse_document(manifest(layers=[descriptor(**bad)]), content_type=OCI_MANIFEST)


def test_an_index_may_list_digests_that_we_cannot_verify_beside_others() -> None:
    raw = index(descriptor(digest="blake3:" + "a" * 64), descriptor())
    parsed = parse_document(raw, content_type=OCI_INDEX)
    assert isinstance(parsed, Index)
    assert [str(entry.digest) for entry in parsed.manifests] == [DIGEST]
