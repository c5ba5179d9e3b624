"""Docker's side of an archive: `manifest.json`, `repositories`, and the v1 directories."""

from __future__ import annotations

import posixpath
import re

from ..errors import IntegrityError, ReferenceError  # noqa: A004 - the field's word
from ..model.reference import ImageReference
from .claims import ImageClaim, LayerClaim, digest_of_config_name, read_document
from .documents import DockerImageDocument, V1Document, decode
from .reader import ArchiveReader, resolve
from .report import Findings
from .tar_table import EntryKind

_V1_ID = re.compile(r"[0-9a-f]{64}")


def read_manifest_json(reader: ArchiveReader, findings: Findings) -> tuple[ImageClaim, ...]:
    """The images that `manifest.json` names."""
    raw = read_document(reader, "manifest.json", findings, wanted_by="Docker")
    if raw is None:
        return ()
    try:
        documents = decode(raw, list[DockerImageDocument])
    except IntegrityError as error:
        findings.add("manifest.json", str(error))
        return ()
    if not documents:
        findings.add("manifest.json", "it lists no image")
    claims = []
    for document in documents:
        for name in document.names or ():
            _check_name(name, findings)
        config_name = posixpath.normpath(document.config)
        claims.append(
            ImageClaim(
                source="manifest.json",
                names=tuple(document.names or ()),
                config_name=config_name,
                config_digest=digest_of_config_name(config_name),
                layers=tuple(LayerClaim(name=posixpath.normpath(name)) for name in document.layers or ()),
            )
        )
    return tuple(claims)


def _check_name(name: str, findings: Findings) -> None:
    """Engines load an image untagged, or not at all, where a name isn't exactly `repository:tag`."""
    try:
        reference = ImageReference.parse(name)
    except ReferenceError as error:
        findings.add("manifest.json", f"RepoTags: {error}")
        return
    if reference.digest is not None:
        findings.add("manifest.json", f"RepoTags: {name!r} has a digest; loaders take repository:tag alone")
    elif ":" not in name.rsplit("/", 1)[-1]:
        findings.add("manifest.json", f"RepoTags: {name!r} has no tag; loaders take repository:tag alone")


def check_repositories(reader: ArchiveReader, images: tuple[ImageClaim, ...], findings: Findings) -> None:
    """`repositories` names each tag's top layer: its v1 directory or, since Docker 25, its blob."""
    if "repositories" not in reader.entries:
        return
    raw = read_document(reader, "repositories", findings, wanted_by="Docker")
    if raw is None:
        return
    try:
        repositories = decode(raw, dict[str, dict[str, str]])
    except IntegrityError as error:
        findings.add("repositories", str(error))
        return
    tops = {name: image.layers[-1].name for image in images if image.layers for name in image.names}
    known = {name for image in images for name in image.names}
    for repository, tags in repositories.items():
        for tag, layer_id in tags.items():
            name = f"{repository}:{tag}"
            candidates = (f"{layer_id}/layer.tar", f"blobs/sha256/{layer_id}", f"{layer_id}.tar")
            targets = [target for target in candidates if resolve(reader, target) is not None]
            if not targets:
                findings.add("repositories", f"{name} points at layer {layer_id}, which isn't here")
            elif images and name not in known:
                findings.add("repositories", f"it names {name}, which manifest.json doesn't")
            elif name in tops and resolve(reader, targets[0]) != resolve(reader, tops[name]):
                findings.add(
                    "repositories", f"{name} points at {targets[0]}, but its top layer is {tops[name]}"
                )


def check_v1(reader: ArchiveReader, findings: Findings) -> frozenset[str]:
    """The v1 directories: a `json` has its directory's id and a parent here. Returns their members."""
    ids = {
        name.partition("/")[0]
        for name, entry in reader.entries.items()
        if name.count("/") == 1
        and name.endswith(("/json", "/layer.tar", "/VERSION"))
        and _V1_ID.fullmatch(name.partition("/")[0])
        and entry.kind is not EntryKind.DIRECTORY
    }
    parents: dict[str, str] = {}
    for layer_id in sorted(ids):
        where = f"{layer_id}/json"
        document = _read_v1(reader, where, findings)
        if document is None:
            continue
        if document.id != layer_id:
            findings.add(where, f"its id is {document.id!r}, not its directory's name")
        if document.parent:
            parents[layer_id] = document.parent
            if document.parent not in ids:
                findings.add(where, f"its parent {document.parent!r} isn't here")
    _check_loops(parents, findings)
    for layer_id in sorted(ids):
        version = read_document(reader, f"{layer_id}/VERSION", findings, wanted_by="its directory's format")
        if version is not None and version.strip() != b"1.0":
            findings.add(f"{layer_id}/VERSION", f"it says {version[:20]!r}, not 1.0")
        if resolve(reader, f"{layer_id}/layer.tar") is None:
            findings.add(f"{layer_id}/layer.tar", "it is missing or a link to nothing")
    return frozenset(f"{layer_id}/{part}" for layer_id in ids for part in ("json", "VERSION", "layer.tar"))


def _read_v1(reader: ArchiveReader, where: str, findings: Findings) -> V1Document | None:
    raw = read_document(reader, where, findings, wanted_by="its directory's format")
    if raw is None:
        return None
    try:
        return decode(raw, V1Document)
    except IntegrityError as error:
        findings.add(where, str(error))
        return None


def _check_loops(parents: dict[str, str], findings: Findings) -> None:
    right: set[str] = set()
    for start in parents:
        seen: dict[str, None] = {}
        layer_id = start
        while layer_id in parents and layer_id not in right and layer_id not in seen:
            seen[layer_id] = None
            layer_id = parents[layer_id]
        if layer_id in seen:
            findings.add(f"{layer_id}/json", "its chain of parents leads back to itself")
        right.update(seen)
