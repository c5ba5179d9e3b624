"""Names inside archives: paths of blobs, and image names in their familiar and in their full form."""

from __future__ import annotations

from collections.abc import Iterable

from ..digest import Digest
from ..model import go_text
from ..model.reference import ImageReference

CONTAINERD_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


def blob_path(digest: Digest) -> str:
    """Where an image layout keeps a blob (image-spec, image-layout.md)."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def tag_of(name: str) -> str:
    return name.rpartition(":")[2]


def full_name(name: str) -> str:
    """`busybox:1` as `docker.io/library/busybox:1`."""
    return str(ImageReference.parse(name))


def name_annotations(name: str) -> dict[str, str]:
    """What Docker and containerd write into `index.json` for a familiar name; values are JSON."""
    return {CONTAINERD_NAME: go_text.quote(full_name(name)), REF_NAME: go_text.quote(tag_of(name))}


def repo_tags(names: Iterable[str]) -> str:
    """`RepoTags`: null, not an empty array, where there are none."""
    listed = list(names)
    return go_text.strings(listed) if listed else "null"


def repositories(tops: Iterable[tuple[str, str]]) -> bytes:
    """The `repositories` file from pairs of familiar name and id, with its newline."""
    tags: dict[str, dict[str, str]] = {}
    for name, top in tops:
        repository, _, tag = name.rpartition(":")
        tags.setdefault(repository, {})[tag] = go_text.quote(top)
    return go_text.mapping({key: go_text.mapping(value) for key, value in tags.items()}).encode() + b"\n"
