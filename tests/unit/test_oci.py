"""OCI layouts: what is listed, under which names, and how a directory takes several."""

from __future__ import annotations

import json

import pytest

from ecr_async_pull.archive import oci
from ecr_async_pull.archive.layout import BlobContent, Member
from ecr_async_pull.archive.naming import CONTAINERD_NAME, REF_NAME
from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import StorageError
from ecr_async_pull.model.descriptor import Descriptor
from ecr_async_pull.model.image import Layer, PlatformImage

from .image_values import by_name, config_bytes, platform_image, resolved

X, Y = b"x" * 700, b"y" * 600


def index_of(members: tuple[Member, ...]) -> bytes:
    content = by_name(members)["index.json"].content
    assert isinstance(content, bytes)
    return content


def listed(index: bytes) -> list[tuple[str, str | None, str | None]]:
    """Digest, `ref.name` and full name of every entry."""
    entries = json.loads(index)["manifests"]
    return [
        (
            entry["digest"],
            entry.get("annotations", {}).get(REF_NAME),
            entry.get("annotations", {}).get(CONTAINERD_NAME),
        )
        for entry in entries
    ]


def test_every_blob_is_there_as_stored_and_the_tag_names_the_manifest() -> None:
    raw = config_bytes([X, Y])
    image = resolved(platform_image(raw, [X, Y]), "team/app:1")
    members = oci.members([image])
    found = by_name(members)
    manifest = image.image.manifest
    assert listed(index_of(members)) == [(str(manifest.digest), "1", "docker.io/team/app:1")]
    assert found[f"blobs/sha256/{manifest.digest.hex}"].content == manifest.raw
    assert found[f"blobs/sha256/{Digest.of(raw).hex}"].content == raw
    assert isinstance(found[f"blobs/sha256/{Digest.of(X).hex}"].content, BlobContent)
    assert found["oci-layout"].content == b'{"imageLayoutVersion":"1.0.0"}'
    assert [member.name for member in members] == sorted(found)
    assert len(found) == 2 + 4 + 2


def test_an_index_of_which_only_one_platform_was_pulled_is_not_listed() -> None:
    image, other = platform_image(config_bytes([X]), [X]), platform_image(config_bytes([Y]), [Y])
    members = oci.members([resolved(image, "a:1", others=(other,), has_index=True)])
    assert [digest for digest, _, _ in listed(index_of(members))] == [str(image.manifest.digest)]
    assert f"blobs/sha256/{other.manifest.digest.hex}" not in by_name(members)


def test_with_all_platforms_the_whole_index_is_there() -> None:
    image, other = platform_image(config_bytes([X]), [X]), platform_image(config_bytes([Y]), [Y])
    whole = resolved(image, "a:1", others=(other,), has_index=True, is_all_platforms=True)
    members = oci.members([whole])
    assert [digest for digest, _, _ in listed(index_of(members))] == [str(whole.target.digest)]
    assert {each.digest.hex for each in (whole.target, image.manifest, other.manifest)} <= {
        name.rpartition("/")[2] for name in by_name(members)
    }


def test_several_images_are_told_apart_by_their_full_references() -> None:
    one, two = platform_image(config_bytes([X]), [X]), platform_image(config_bytes([X, Y]), [X, Y])
    members = oci.members([resolved(one, "a:1"), resolved(two, "r.test/b:1")])
    assert [names for _, *names in listed(index_of(members))] == [
        ["docker.io/library/a:1", "docker.io/library/a:1"],
        ["r.test/b:1", "r.test/b:1"],
    ]


def test_two_tags_of_one_image_are_two_entries() -> None:
    image = platform_image(config_bytes([X]), [X])
    members = oci.members([resolved(image, "a:1"), resolved(image, "a:2"), resolved(image, "a:1")])
    assert [name for _, name, _ in listed(index_of(members))] == ["1", "2"]


def test_an_image_without_a_name_is_listed_without_annotations() -> None:
    members = oci.members([resolved(platform_image(config_bytes([X]), [X]))])
    assert "annotations" not in json.loads(index_of(members))["manifests"][0]


def test_sha512_blobs_lie_in_their_own_directory() -> None:
    image = platform_image(config_bytes([X]), [X])
    digest = Digest.of(X, "sha512")
    layer = Layer(
        descriptor=Descriptor(media_type="application/x", digest=digest, size_bytes=len(X)),
        diff_id=Digest.of(X),
        position=0,
    )
    mixed = PlatformImage(
        manifest=image.manifest, config=image.config, config_raw=image.config_raw, layers=(layer,)
    )
    names = [member.name for member in oci.members([resolved(mixed, "a:1")])]
    assert names[:2] == ["blobs/", "blobs/sha256/"]
    assert names[-4:] == ["blobs/sha512/", f"blobs/sha512/{digest.hex}", "index.json", "oci-layout"]


def index_for(name: str, layer: bytes = X) -> bytes:
    return index_of(oci.members([resolved(platform_image(config_bytes([layer]), [layer]), name)]))


def test_a_directory_takes_another_image_and_the_same_again_changes_nothing() -> None:
    first, second = index_for("a:1"), index_for("b:2", Y)
    both = oci.merge_index(first, second)
    assert [name for _, name, _ in listed(both)] == ["1", "2"]
    assert oci.merge_index(both, first) == both
    assert oci.merge_index(both, second) == both
    assert oci.merge_index(first, first) == first


def test_a_moved_tag_replaces_its_entry_in_place() -> None:
    both = oci.merge_index(index_for("a:1"), index_for("b:2"))
    moved = oci.merge_index(both, index_for("a:1", Y))
    assert [name for _, name, _ in listed(moved)] == ["1", "2"]
    assert listed(moved)[0][0] == listed(index_for("a:1", Y))[0][0]


def test_the_same_tag_of_another_repository_takes_its_full_reference() -> None:
    both = oci.merge_index(index_for("a:1"), index_for("b:1", Y))
    assert [name for _, name, _ in listed(both)] == ["1", "docker.io/library/b:1"]
    assert oci.merge_index(both, index_for("b:1", Y)) == both


def test_what_another_tool_wrote_stays_unless_its_name_is_taken_over() -> None:
    theirs = {"digest": "sha256:1", "annotations": {REF_NAME: "1", "x": "y"}}
    bare = {"digest": "sha256:2", "platform": {"os": "plan9"}}
    existing = json.dumps(
        {"schemaVersion": 2, "annotations": {"k": "v"}, "manifests": [theirs, bare]}
    ).encode()
    kept = json.loads(oci.merge_index(existing, index_for("a:2")))
    assert kept["manifests"][:2] == [theirs, bare]
    assert kept["annotations"] == {"k": "v"}
    taken = json.loads(oci.merge_index(existing, index_for("a:1")))
    assert [bare] == taken["manifests"][1:]


def test_a_nameless_image_is_listed_once() -> None:
    nameless = index_of(oci.members([resolved(platform_image(config_bytes([X]), [X]))]))
    assert oci.merge_index(nameless, nameless) == nameless
    assert len(listed(oci.merge_index(index_for("a:1", Y), nameless))) == 2


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"schemaVersion":2,"manifests":5}', b'{"schemaVersion":1}']
)
def test_a_directory_whose_index_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(StorageError, match=r"index\.json"):
        oci.merge_index(raw, index_for("a:1"))
