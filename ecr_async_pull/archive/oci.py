"""OCI image layouts (image-spec, image-layout.md), as a tar or as a directory: every blob as stored.

`index.json` names an image in two annotations. `org.opencontainers.image.ref.name` is what skopeo and umoci
take after the path (`oci:DIR:NAME`): the tag; where an archive holds several images, or a directory
holds another image of that tag, the full reference, which both accept just as well.
`io.containerd.image.name` is always the full reference: `ctr images import` names the image by it.

Descriptors keep the registry's media types, Docker's too: a descriptor of another type than its manifest is
refused by more tools than it helps. skopeo finds an image with Docker's types only where it is alone in the
layout and no name is given; umoci reads OCI types alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypedDict, cast

from ..digest import Digest
from ..errors import StorageError
from ..model import go_text
from ..model.image import ResolvedImage
from .blob_set import BlobSet, descriptor, index_document
from .docker_compressed import add_stored
from .layout import Member
from .naming import CONTAINERD_NAME, REF_NAME, full_name, tag_of

_BLOB_MODE = 0o644
_OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def members(images: Sequence[ResolvedImage]) -> tuple[Member, ...]:
    """The members of one layout of all `images`, sorted by name, every time 0.

    Without all platforms the chosen manifest alone is listed: an index with holes is none that other tools
    take. With all platforms it is what the reference names, with everything under it.
    """
    blobs = BlobSet(mode=_BLOB_MODE)
    has_one_image = len({_listed(image)[1] for image in images}) == 1
    tags = [tag_of(name) for name in dict.fromkeys(name for image in images for name in image.names)]
    is_tag_enough = has_one_image and len(set(tags)) == len(tags)
    descriptors: dict[str, None] = {}
    for image in images:
        add_stored(blobs, image.image)
        if image.is_all_platforms:
            for index in image.indexes:
                blobs.add(index.digest, index.raw)
            for other in image.others:
                add_stored(blobs, other)
        for named in [_annotations(name, is_tag_enough=is_tag_enough) for name in image.names] or [{}]:
            descriptors[descriptor(*_listed(image), named)] = None
    files = {"index.json": index_document(descriptors), "oci-layout": _OCI_LAYOUT}
    return blobs.members(files)


class _Entry(TypedDict, total=False):
    digest: str
    annotations: dict[str, str]


def merge_index(existing: bytes, fresh: bytes) -> bytes:
    """`index.json` of a directory that holds `existing` already, once the images of `fresh` are in it.

    An entry of the same full reference is replaced where it stands, so is one by another tool that has the
    same `ref.name`; if that name belongs to another reference here, the fresh one takes its full reference.
    Everything else stays. Raises `StorageError` where `existing` is no index.
    """
    document = _decode(existing)
    entries = cast("list[_Entry]", document["manifests"])
    for entry in cast("list[_Entry]", _decode(fresh)["manifests"]):
        _put(entries, entry)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _put(entries: list[_Entry], fresh: _Entry) -> None:
    name = _annotation(fresh, CONTAINERD_NAME)
    if name is None:
        if all(entry.get("digest") != fresh["digest"] for entry in entries):
            entries.append(fresh)
        return
    reference = _annotation(fresh, REF_NAME)
    if any(
        _annotation(entry, REF_NAME) == reference and _annotation(entry, CONTAINERD_NAME) not in (None, name)
        for entry in entries
    ):
        reference = name
        fresh = cast("_Entry", {**fresh, "annotations": {**fresh["annotations"], REF_NAME: name}})
    kept: list[_Entry] = []
    is_placed = False
    for entry in entries:
        old_name, old_reference = _annotation(entry, CONTAINERD_NAME), _annotation(entry, REF_NAME)
        if old_name == name or (old_name is None and old_reference == reference):
            if not is_placed:
                kept.append(fresh)
            is_placed = True
        else:
            kept.append(entry)
    entries[:] = kept if is_placed else [*kept, fresh]


def _annotation(entry: _Entry, key: str) -> str | None:
    return (entry.get("annotations") or {}).get(key)


def _decode(raw: bytes) -> dict[str, object]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _no_index() from error
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise _no_index()
    entries = document.setdefault("manifests", [])
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("annotations") or {}, dict) for entry in entries
    ):
        raise _no_index()
    return document


def _no_index() -> StorageError:
    return StorageError(
        "the directory's index.json is no image index; choose an empty directory or another one"
    )


def _listed(image: ResolvedImage) -> tuple[str, Digest, int]:
    """Media type, digest and size of what `index.json` lists."""
    if image.is_all_platforms:
        return image.target.media_type, image.target.digest, image.target.size_bytes
    manifest = image.image.manifest
    return manifest.media_type, manifest.digest, len(manifest.raw)


def _annotations(name: str, *, is_tag_enough: bool) -> dict[str, str]:
    full = full_name(name)
    reference = tag_of(name) if is_tag_enough else full
    return {CONTAINERD_NAME: go_text.quote(full), REF_NAME: go_text.quote(reference)}
