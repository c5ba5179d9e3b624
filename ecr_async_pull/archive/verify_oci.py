"""The image layout side of an archive: `oci-layout`, `index.json`, and what they lead to."""

from __future__ import annotations

from ..errors import IntegrityError, UnsupportedImageError
from ..model.descriptor import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX, Descriptor
from ..model.manifest import Index, Manifest, parse_document
from .claims import ImageClaim, LayerClaim, blob_name, read_document
from .documents import LayoutDocument, decode
from .reader import ArchiveReader, resolve
from .report import Findings

_IMAGE_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_MAX_DEPTH = 8


def read_layout(reader: ArchiveReader, findings: Findings) -> tuple[tuple[ImageClaim, ...], frozenset[str]]:
    """All images that `index.json` leads to, and the names of all manifests and indexes on the way."""
    walk = _Walk(reader, findings)
    _check_version(reader, findings)
    raw = read_document(reader, "index.json", findings, wanted_by="oci-layout")
    if raw is not None:
        walk.index(raw, media_type=OCI_INDEX, source="index.json", names=(), depth=0)
    return tuple(walk.images.values()), frozenset(walk.documents)


def _check_version(reader: ArchiveReader, findings: Findings) -> None:
    raw = read_document(reader, "oci-layout", findings, wanted_by="an image layout (index.json is here)")
    if raw is None:
        return
    try:
        version = decode(raw, LayoutDocument).version
    except IntegrityError as error:
        findings.add("oci-layout", str(error))
        return
    if version != "1.0.0":
        findings.add("oci-layout", f"it says version {version!r}; tools know 1.0.0")


class _Walk:
    def __init__(self, reader: ArchiveReader, findings: Findings) -> None:
        self._reader = reader
        self._findings = findings
        self.images: dict[str, ImageClaim] = {}
        self.documents: set[str] = set()

    def index(self, raw: bytes, *, media_type: str, source: str, names: tuple[str, ...], depth: int) -> None:
        document = self._parse(raw, media_type, source)
        if document is None:
            return
        if not isinstance(document, Index):
            self._findings.add(source, "it is listed as an index but is a manifest")
            return
        if depth > _MAX_DEPTH:
            self._findings.add(source, f"indexes are nested more than {_MAX_DEPTH} deep")
            return
        absent = []
        for descriptor in document.manifests:
            if resolve(self._reader, blob_name(descriptor.digest)) is None and depth > 0:
                absent.append(descriptor)
            else:
                own = names if depth else _names(descriptor)
                self._follow(descriptor, source=source, names=own, depth=depth)
        self._tell_absent(absent, source, is_all=len(absent) == len(document.manifests))

    def _tell_absent(self, absent: list[Descriptor], source: str, *, is_all: bool) -> None:
        """Engines keep an index whole though only one platform was pulled: fine, unless nothing is here."""
        if not absent:
            return
        if is_all:
            self._findings.add(source, f"none of the {len(absent)} manifests that this index lists is here")
            return
        whats = ", ".join(_platform(descriptor) or descriptor.digest.short for descriptor in absent)
        self._findings.note(source, f"this index also lists what isn't here: {whats}")

    def _follow(self, descriptor: Descriptor, *, source: str, names: tuple[str, ...], depth: int) -> None:
        name = blob_name(descriptor.digest)
        raw = read_document(self._reader, name, self._findings, wanted_by=source)
        self.documents.add(name)
        if raw is None:
            return
        if len(raw) != descriptor.size_bytes:
            self._findings.add(name, f"it has {len(raw)} bytes; {source} says {descriptor.size_bytes}")
        if descriptor.media_type in INDEX_TYPES:
            self.index(raw, media_type=descriptor.media_type, source=name, names=names, depth=depth + 1)
            return
        if descriptor.media_type and descriptor.media_type not in MANIFEST_TYPES:
            self._findings.note(name, f"it is neither a manifest nor an index ({descriptor.media_type})")
            return
        document = self._parse(raw, descriptor.media_type, name)
        if isinstance(document, Index):
            self._findings.add(name, f"{source} lists it without a media type, and it is an index")
        elif document is not None:
            self._add_image(document, name, names)

    def _parse(self, raw: bytes, media_type: str, name: str) -> Manifest | Index | None:
        try:
            return parse_document(raw, content_type=media_type)
        except (UnsupportedImageError, IntegrityError) as error:
            self._findings.add(name, f"it can't be read: {error}")
            return None

    def _add_image(self, manifest: Manifest, name: str, names: tuple[str, ...]) -> None:
        before = self.images.get(name)
        if before is not None:  # one entry of index.json for each name
            names = before.names + tuple(new for new in names if new not in before.names)
        self.images[name] = ImageClaim(
            source=name,
            names=names,
            config_name=blob_name(manifest.config.digest),
            config_digest=manifest.config.digest,
            config_size_bytes=manifest.config.size_bytes,
            layers=tuple(
                LayerClaim(
                    name=blob_name(layer.digest),
                    size_bytes=layer.size_bytes,
                    is_tar="tar" in (layer.media_type or "tar"),
                    is_foreign=layer.is_foreign or bool(layer.urls),
                    is_encrypted=layer.is_encrypted,
                )
                for layer in manifest.layers
            ),
            is_artifact=manifest.config.media_type not in CONFIG_TYPES,
        )


def _names(descriptor: Descriptor) -> tuple[str, ...]:
    name = descriptor.annotations.get(_IMAGE_NAME) or descriptor.annotations.get(_REF_NAME)
    return (name,) if name else ()


def _platform(descriptor: Descriptor) -> str:
    platform = descriptor.platform
    if platform is None:
        return ""
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)
