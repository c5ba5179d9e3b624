"""Layout G: what `docker save` of Docker 28 with a graph driver writes, an OCI layout of inflated layers.

Times that a daemon takes from its clock (`blobs/sha256/`) are 0 here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..digest import Digest
from ..model import go_text
from ..model.descriptor import OCI_CONFIG, OCI_LAYER_TAR, OCI_MANIFEST
from ..model.image import ResolvedImage
from .blob_set import BlobSet, descriptor, index_document
from .images import SavedImage, merge
from .layout import BlobContent, Form, Member
from .naming import blob_path, name_annotations, repo_tags, repositories
from .v1_image import DOCKER_28, V1Image

_BLOB_MODE = 0o644
_OCI_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


def members(images: Sequence[ResolvedImage], tar_sizes: Mapping[Digest, int]) -> tuple[Member, ...]:
    """The members of one archive of all `images`, in the order in which Docker writes them.

    Names and contents depend on `tar_sizes`. Raises `UnsupportedImageError` for a config that Docker refuses.
    """
    blobs = BlobSet(mode=_BLOB_MODE)
    written_ids: set[str] = set()
    blobs_mtime_s = 0
    entries: list[str] = []
    descriptors: list[str] = []
    tops: list[tuple[str, str]] = []
    for image in merge(images, DOCKER_28.name):
        v1_image = DOCKER_28.v1_image(image.config)
        mtime_s = v1_image.mtime_s
        for layer in v1_image.layers:
            if layer.id not in written_ids:
                written_ids.add(layer.id)
                blobs.add_document(layer.json, mtime_s)
            content = BlobContent(digest=layer.diff_id, form=Form.TAR, size_bytes=tar_sizes[layer.diff_id])
            if blobs.add(layer.diff_id, content, mtime_s):
                blobs_mtime_s = mtime_s
        blobs.add_document(image.config.raw, mtime_s)
        manifest = _oci_manifest(image, v1_image, tar_sizes)
        blobs.add_document(manifest, 0)
        entries.append(_manifest_entry(image, v1_image, tar_sizes))
        manifest_digest = Digest.of(manifest)
        descriptors.extend(
            descriptor(OCI_MANIFEST, manifest_digest, len(manifest), annotations)
            for annotations in [name_annotations(name) for name in image.names] or [{}]
        )
        tops.extend((name, v1_image.layers[-1].diff_id.hex) for name in image.names)
    files = {
        "index.json": index_document(descriptors),
        "manifest.json": f"[{','.join(entries)}]\n".encode(),
        "oci-layout": _OCI_LAYOUT,
    }
    if tops:
        files["repositories"] = repositories(tops)
    return blobs.members(files, blobs_mtime_s=blobs_mtime_s)


def _oci_manifest(image: SavedImage, v1_image: V1Image, tar_sizes: Mapping[Digest, int]) -> bytes:
    layers = [descriptor(OCI_LAYER_TAR, layer.diff_id, tar_sizes[layer.diff_id]) for layer in v1_image.layers]
    return go_text.struct(
        [
            ("schemaVersion", "2"),
            ("mediaType", go_text.quote(OCI_MANIFEST)),
            ("config", descriptor(OCI_CONFIG, image.config.digest, len(image.config.raw))),
            ("layers", f"[{','.join(layers)}]"),
        ]
    ).encode()


def _manifest_entry(image: SavedImage, v1_image: V1Image, tar_sizes: Mapping[Digest, int]) -> str:
    sources = {str(layer.diff_id): _layer_source(layer.diff_id, tar_sizes) for layer in v1_image.layers}
    return go_text.struct(
        [
            ("Config", go_text.quote(blob_path(image.config.digest))),
            ("RepoTags", repo_tags(image.names)),
            ("Layers", go_text.strings(blob_path(layer.diff_id) for layer in v1_image.layers)),
            ("LayerSources", go_text.mapping(sources)),
        ]
    )


def _layer_source(diff_id: Digest, tar_sizes: Mapping[Digest, int]) -> str:
    """Docker's own descriptor, which unlike OCI's leaves a size of 0 out."""
    size = [("size", str(tar_sizes[diff_id]))] if tar_sizes[diff_id] else []
    media_type = ("mediaType", go_text.quote(OCI_LAYER_TAR))
    return go_text.struct([media_type, *size, ("digest", go_text.quote(str(diff_id)))])
