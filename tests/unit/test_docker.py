"""The two layouts of newer Dockers: graph drivers (inflated) and the containerd store (as stored)."""

from __future__ import annotations

import json

import pytest

from ecr_async_pull.archive import docker, docker_compressed, formats
from ecr_async_pull.archive.layout import BlobContent, Form, MemberKind
from ecr_async_pull.archive.v1_image import DOCKER_28
from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import UnsupportedImageError
from ecr_async_pull.model.image_config import ImageConfig
from ecr_async_pull.settings import ArchiveFormat

from .image_values import by_name, config_bytes, forms, platform_image, resolved, tar_sizes, written

CREATED_S = 1714979289
CREATED = '"os":"linux","created":"2024-05-06T07:08:09.5Z",'
X, Y, EMPTY = b"x" * 700, b"y" * 600, b""
NAME = "registry.test:5000/team/app:1"


def blob(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def text(content: object) -> str:
    assert isinstance(content, bytes)
    return content.decode()


def test_the_graph_drivers_archive_is_dockers() -> None:
    raw = config_bytes([X, EMPTY, X], CREATED)
    image = resolved(platform_image(raw, [X, EMPTY, X]), NAME, "busybox:a")
    members = docker.members([image], tar_sizes(X, EMPTY))
    found = by_name(members)
    x, empty, config = Digest.of(X), Digest.of(EMPTY), Digest.of(raw)
    oci_type = "application/vnd.oci.image"
    layer = f'{{"mediaType":"{oci_type}.layer.v1.tar","digest":"{x}","size":700}}'
    empty_layer = f'{{"mediaType":"{oci_type}.layer.v1.tar","digest":"{empty}","size":0}}'
    manifest = (
        f'{{"schemaVersion":2,"mediaType":"{oci_type}.manifest.v1+json",'
        f'"config":{{"mediaType":"{oci_type}.config.v1+json","digest":"{config}","size":{len(raw)}}},'
        f'"layers":[{layer},{empty_layer},{layer}]}}'
    )
    digest = Digest.of(manifest.encode())
    assert text(found[blob(digest)].content) == manifest
    described = f'{{"mediaType":"{oci_type}.manifest.v1+json","digest":"{digest}","size":{len(manifest)}'
    assert text(found["index.json"].content) == (
        f'{{"schemaVersion":2,"mediaType":"{oci_type}.index.v1+json","manifests":['
        f'{described},"annotations":{{"io.containerd.image.name":"{NAME}","org.opencontainers.image.ref.name":"1"}}}},'
        f'{described},"annotations":{{"io.containerd.image.name":"docker.io/library/busybox:a",'
        f'"org.opencontainers.image.ref.name":"a"}}}}]}}'
    )
    sources = sorted(
        [
            f'"{x}":{{"mediaType":"{oci_type}.layer.v1.tar","size":700,"digest":"{x}"}}',
            f'"{empty}":{{"mediaType":"{oci_type}.layer.v1.tar","digest":"{empty}"}}',
        ]
    )
    assert text(found["manifest.json"].content) == (
        f'[{{"Config":"{blob(config)}","RepoTags":["{NAME}","busybox:a"],'
        f'"Layers":["{blob(x)}","{blob(empty)}","{blob(x)}"],"LayerSources":{{{",".join(sources)}}}}}]\n'
    )
    assert text(found["oci-layout"].content) == '{"imageLayoutVersion": "1.0.0"}'
    assert text(found["repositories"].content) == (
        f'{{"busybox":{{"a":"{x.hex}"}},"registry.test:5000/team/app":{{"1":"{x.hex}"}}}}\n'
    )
    jsons = [layer.json for layer in DOCKER_28.v1_image(ImageConfig.parse(raw)).layers]
    assert all(found[blob(Digest.of(each))].content == each for each in jsons)
    hexes = sorted(each.hex for each in (x, empty, config, digest, *map(Digest.of, jsons)))
    assert [member.name for member in members] == [
        "blobs/",
        "blobs/sha256/",
        *(f"blobs/sha256/{each}" for each in hexes),
        "index.json",
        "manifest.json",
        "oci-layout",
        "repositories",
    ]
    at_zero = {member.name for member in members if member.mtime_s == 0}
    assert at_zero == {
        "blobs/sha256/",
        blob(digest),
        "index.json",
        "manifest.json",
        "oci-layout",
        "repositories",
    }
    assert {member.mtime_s for member in members} == {0, CREATED_S}
    assert {member.mode for member in members if member.kind is MemberKind.FILE} == {0o644}


def test_without_names_the_graph_drivers_archive_lists_one_bare_descriptor() -> None:
    image = resolved(platform_image(config_bytes([X]), [X]))
    found = by_name(docker.members([image], tar_sizes(X)))
    assert "repositories" not in found
    (described,) = json.loads(text(found["index.json"].content))["manifests"]
    assert sorted(described) == ["digest", "mediaType", "size"]
    assert json.loads(text(found["manifest.json"].content))[0]["RepoTags"] is None


def test_the_stored_archive_is_dockers() -> None:
    raw = config_bytes([X, Y], CREATED)
    image = resolved(platform_image(raw, [X, Y]), NAME)
    manifest = image.image.manifest
    members = docker_compressed.members([image])
    found = by_name(members)
    assert text(found["index.json"].content) == (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
        f'{{"mediaType":"{manifest.media_type}","digest":"{manifest.digest}","size":{len(manifest.raw)},"annotations":{{'
        '"containerd.io/distribution.source.registry.test":"team/app",'
        f'"io.containerd.image.name":"{NAME}","org.opencontainers.image.ref.name":"1"}}}}]}}'
    )
    assert text(found["manifest.json"].content) == (
        f'[{{"Config":"{blob(Digest.of(raw))}","RepoTags":["{NAME}"],'
        f'"Layers":["{blob(Digest.of(X))}","{blob(Digest.of(Y))}"]}}]'
    )
    assert text(found["oci-layout"].content) == '{"imageLayoutVersion":"1.0.0"}'
    assert found[blob(manifest.digest)].content == manifest.raw
    assert forms(members) == {Form.STORED}
    assert {member.mtime_s for member in members} == {0}
    modes = {member.name: member.mode for member in members}
    assert modes.pop("blobs/") == modes.pop("blobs/sha256/") == 0o755
    assert modes.pop("index.json") == modes.pop("manifest.json") == 0o644
    assert set(modes.values()) == {0o444}
    assert "repositories" not in found


def test_the_stored_archive_keeps_an_index_whole_and_carries_attestations_along() -> None:
    image = platform_image(config_bytes([X]), [X])
    attestation = platform_image(config_bytes([Y], '"os":"unknown",'), [Y], is_oci=True)
    whole = resolved(image, NAME, others=(attestation,), has_index=True)
    found = by_name(docker_compressed.members([whole]))
    (described,) = json.loads(text(found["index.json"].content))["manifests"]
    assert described["digest"] == str(whole.target.digest)
    assert found[blob(whole.target.digest)].content == whole.indexes[0].raw
    for each in (image, attestation):
        assert found[blob(each.manifest.digest)].content == each.manifest.raw
        assert found[blob(each.manifest.config.digest)].content == each.config_raw
    (entry,) = json.loads(text(found["manifest.json"].content))
    assert entry["Layers"] == [blob(Digest.of(X))]


def test_the_stored_archive_without_names_tells_only_where_it_came_from() -> None:
    image = resolved(
        platform_image(config_bytes([X]), [X]), reference="localhost:5000/a@" + str(Digest.of(X))
    )
    found = by_name(docker_compressed.members([image]))
    (described,) = json.loads(text(found["index.json"].content))["manifests"]
    assert described["annotations"] == {"containerd.io/distribution.source.localhost": "a"}


def test_one_image_from_two_repositories_names_both() -> None:
    image = platform_image(config_bytes([X]), [X])
    members = docker_compressed.members(
        [
            resolved(image, "r.test/b:1", reference="r.test/b:1"),
            resolved(image, "r.test/a:1", reference="r.test/a:1"),
        ]
    )
    found = by_name(members)
    listed = json.loads(text(found["index.json"].content))["manifests"]
    assert [each["annotations"]["containerd.io/distribution.source.r.test"] for each in listed] == ["a,b"] * 2
    (entry,) = json.loads(text(found["manifest.json"].content))
    assert entry["RepoTags"] == ["r.test/b:1", "r.test/a:1"]


def test_layers_go_inflated_or_stored_as_the_format_says() -> None:
    images = [resolved(platform_image(config_bytes([X, Y, X]), [X, Y, X]), "a:1")]
    x, y = Digest.of(X), Digest.of(Y)
    for archive_format, keep, form in (
        (ArchiveFormat.DOCKER, False, Form.TAR),
        (ArchiveFormat.DOCKER_LEGACY, False, Form.TAR),
        (ArchiveFormat.DOCKER_LEGACY, True, Form.TAR),
        (ArchiveFormat.DOCKER, True, Form.STORED),
        (ArchiveFormat.OCI_ARCHIVE, False, Form.STORED),
        (ArchiveFormat.OCI_DIRECTORY, False, Form.STORED),
    ):
        found = formats.blobs(archive_format=archive_format, keep_compressed=keep, images=images)
        assert sorted(found, key=str) == sorted([(x, form), (y, form)], key=str)


def test_only_the_formats_that_docker_decodes_refuse_what_docker_refuses() -> None:
    images = [resolved(platform_image(config_bytes([X], '"config":{"Env":5},'), [X]), "a:1")]
    with pytest.raises(UnsupportedImageError, match=r"docker-archive.*'config\.Env'"):
        formats.blobs(archive_format=ArchiveFormat.DOCKER, keep_compressed=False, images=images)
    assert formats.blobs(archive_format=ArchiveFormat.DOCKER, keep_compressed=True, images=images)
    assert formats.blobs(archive_format=ArchiveFormat.OCI_ARCHIVE, keep_compressed=False, images=images)


def test_sizes_that_were_guessed_change_nothing_but_the_size_documents() -> None:
    images = [resolved(platform_image(config_bytes([X], CREATED), [X]), "a:1")]
    guessed = by_name(docker.members(images, {Digest.of(X): 5}))
    exact = by_name(docker.members(images, tar_sizes(X)))
    shared = guessed.keys() & exact.keys()
    assert len(guessed) == len(exact) == len(shared) + 1, "only the OCI manifest has another name"
    assert {name for name in shared if guessed[name] != exact[name]} == {
        blob(Digest.of(X)),
        "index.json",
        "manifest.json",
    }
    assert exact[blob(Digest.of(X))].content == BlobContent(
        digest=Digest.of(X), form=Form.TAR, size_bytes=len(X)
    )


def test_the_archives_are_whole_tars() -> None:
    image = resolved(platform_image(config_bytes([X, Y]), [X, Y]), "a:1")
    for members in (docker.members([image], tar_sizes(X, Y)), docker_compressed.members([image])):
        assert len(written(members, [X, Y])) % 512 == 0
