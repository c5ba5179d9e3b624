"""Layout C: what `docker save` of Docker 29's containerd store writes, blobs as the registry has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..digest import Digest
from ..model import go_text
from ..model.image import PlatformImage, ResolvedImage
from .blob_set import BlobSet, descriptor, index_document
from .images import config_of
from .layout import BlobContent, Form, Member
from .naming import blob_path, name_annotations, repo_tags

FORMAT_NAME = "docker-archive"
_BLOB_MODE = 0o444
_OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_SOURCE = "containerd.io/distribution.source."


def members(images: Sequence[ResolvedImage]) -> tuple[Member, ...]:
    """The members of one archive of all `images`, in the order in which Docker writes them.

    An index that a reference names is kept whole although only its chosen manifests are there.
    """
    blobs = BlobSet(mode=_BLOB_MODE)
    descriptors: dict[str, None] = {}
    entries: dict[Digest, tuple[PlatformImage, dict[str, None]]] = {}
    sources = _sources(images)
    for image in images:
        config_of(image.image, FORMAT_NAME)
        for index in image.indexes:
            blobs.add(index.digest, index.raw)
        for platform_image in (image.image, *image.others):
            add_stored(blobs, platform_image)
        target = image.target
        for names in [name_annotations(name) for name in image.names] or [{}]:
            annotations = names | sources[target.digest]
            descriptors[descriptor(target.media_type, target.digest, target.size_bytes, annotations)] = None
        entry = entries.setdefault(image.image.manifest.digest, (image.image, {}))
        entry[1].update(dict.fromkeys(image.names))
    manifest = ",".join(_manifest_entry(image, names) for image, names in entries.values())
    files = {
        "index.json": index_document(descriptors),
        "manifest.json": f"[{manifest}]".encode(),
        "oci-layout": _OCI_LAYOUT,
    }
    return blobs.members(files, file_modes={"oci-layout": _BLOB_MODE})


def add_stored(blobs: BlobSet, image: PlatformImage) -> None:
    """A manifest with its config and its layers, every one as stored."""
    manifest = image.manifest
    blobs.add(manifest.digest, manifest.raw)
    blobs.add(manifest.config.digest, image.config_raw)
    for layer in image.layers:
        stored = layer.descriptor
        blobs.add(
            stored.digest, BlobContent(digest=stored.digest, form=Form.STORED, size_bytes=stored.size_bytes)
        )


def _sources(images: Iterable[ResolvedImage]) -> dict[Digest, dict[str, str]]:
    """containerd's labels of where each target came from: the repositories by host, as JSON."""
    repositories: dict[Digest, dict[str, set[str]]] = {}
    for image in images:
        by_host = repositories.setdefault(image.target.digest, {})
        by_host.setdefault(image.reference.host, set()).add(image.reference.repository)
    return {
        digest: {
            f"{_SOURCE}{host}": go_text.quote(",".join(sorted(names))) for host, names in by_host.items()
        }
        for digest, by_host in repositories.items()
    }


def _manifest_entry(image: PlatformImage, names: Iterable[str]) -> str:
    layers = [blob_path(layer.digest) for layer in image.manifest.layers]
    return go_text.struct(
        [
            ("Config", go_text.quote(blob_path(image.manifest.config.digest))),
            ("RepoTags", repo_tags(names)),
            ("Layers", go_text.strings(layers) if layers else "null"),
        ]
    )
