"""Checking an archive or OCI directory from disk alone: every digest, diff_id and cross reference."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..digest import Digest
from ..errors import IntegrityError, UnsupportedImageError, UsageError
from ..model.image_config import ImageConfig
from ..settings import MIB
from .claims import ImageClaim, LayerClaim, digest_of_blob_name, read_document
from .cross_check import check_agreement
from .documents import V1Document, decode
from .measure import Measured, Wanted, measure_all
from .reader import ArchiveReader, open_archive, read_whole, resolve
from .report import Finding, Findings, ImageSummary, VerifyReport
from .tar_table import EntryKind
from .verify_docker import check_repositories, check_v1, read_manifest_json
from .verify_oci import read_layout

__all__ = ["Finding", "ImageSummary", "VerifyReport", "verify"]

_V1_LIMIT_BYTES = MIB
_LISTED = 5
_LAYOUT_NAMES = frozenset({"manifest.json", "repositories", "index.json", "oci-layout"})


def verify(path: Path) -> VerifyReport:
    """Check everything that can be checked without a registry. Blocking; memory stays bounded.

    Raises `UsageError` for what is no archive of images, `StorageError` where it can't be read. Whatever
    is wrong inside is in the report.
    """
    findings = Findings()
    with open_archive(path, findings) as reader:
        return _Verification(path, reader, findings).run()


class _Verification:
    def __init__(self, path: Path, reader: ArchiveReader, findings: Findings) -> None:
        self._path = path
        self._reader = reader
        self._findings = findings
        self._measured: dict[str, Measured] = {}

    def run(self) -> VerifyReport:
        reader, findings = self._reader, self._findings
        docker: tuple[ImageClaim, ...] = ()
        layout: tuple[ImageClaim, ...] = ()
        documents: frozenset[str] = frozenset()
        has_docker, has_layout = "manifest.json" in reader.entries, "index.json" in reader.entries
        if not reader.is_directory and not has_docker and not has_layout and not findings.wrong:
            raise UsageError(
                f"{self._path} holds neither manifest.json nor index.json, so no image that loaders know;"
                " give an archive of docker save, skopeo, crane, podman or this tool"
            )
        if has_layout or "oci-layout" in reader.entries:
            layout, documents = read_layout(reader, findings)
        if has_docker and not reader.is_directory:
            docker = read_manifest_json(reader, findings)
        v1_members = check_v1(reader, findings)
        check_repositories(reader, docker, findings)
        if has_docker and "oci-layout" in reader.entries:
            check_agreement(docker, layout, findings)
        claims = _unique((*docker, *layout))
        self._measure(claims)
        self._check_blobs()
        summaries = tuple(self._check_image(claim) for claim in claims)
        self._check_replaced()
        self._tell_unused(claims, documents | v1_members)
        return VerifyReport(
            kind=self._kind(docker),
            images=summaries,
            findings=findings.wrong,
            notes=findings.odd,
        )

    def _kind(self, docker: tuple[ImageClaim, ...]) -> str:
        if self._reader.is_directory:
            return "oci"
        if "manifest.json" not in self._reader.entries:
            return "oci-archive" if "index.json" in self._reader.entries else "docker-archive"
        layers = [layer.name for claim in docker for layer in claim.layers]
        is_legacy = bool(layers) and all(name.endswith("/layer.tar") for name in layers)
        return "docker-legacy" if is_legacy else "docker-archive"

    def _measure(self, claims: Iterable[ImageClaim]) -> None:
        """One pass over each blob and each layer, whatever number of images uses it."""
        wanted: dict[str, Wanted] = {}
        for name, entry in self._reader.entries.items():
            digest = digest_of_blob_name(name)
            if digest is not None and entry.kind is EntryKind.FILE:
                wanted[name] = Wanted(entry=entry, algorithm=digest.algorithm)
        for claim in claims:
            for layer in claim.layers:
                target = resolve(self._reader, layer.name)
                if target is not None and layer.is_tar and not layer.is_encrypted:
                    algorithm = wanted[target.name].algorithm if target.name in wanted else "sha256"
                    wanted[target.name] = Wanted(entry=target, algorithm=algorithm, inflates=True)
        for position, entry in enumerate(self._reader.replaced):
            wanted[_replaced_key(position)] = Wanted(entry=entry)
            last = resolve(self._reader, entry.name)
            if last is not None:
                wanted.setdefault(last.name, Wanted(entry=last))
        self._measured = measure_all(self._reader, wanted)

    def _check_blobs(self) -> None:
        for name, measured in self._measured.items():
            digest = digest_of_blob_name(name)
            if digest is None:
                continue
            if measured.stored is not None and measured.stored != digest:
                self._findings.add(name, f"its bytes have digest {measured.stored}, not the one in its name")
            elif measured.stored is None and not self._reader.entries[name].is_cut:
                self._findings.add(name, measured.damage)

    def _check_image(self, claim: ImageClaim) -> ImageSummary:
        raw = read_document(self._reader, claim.config_name, self._findings, wanted_by=claim.source)
        config = None
        if raw is not None:
            self._check_config_bytes(claim, raw)
            config = self._parse_config(claim, raw)
        if claim.is_artifact:
            self._findings.note(claim.source, "it is an artifact, no image: only stored digests are checked")
        for layer in claim.layers:
            self._check_stored(claim, layer)
        if config is not None:
            self._check_layers(claim, config)
        present = [entry for layer in claim.layers if (entry := resolve(self._reader, layer.name))]
        return ImageSummary(
            names=claim.names,
            image_id=str(Digest.of(raw)) if raw is not None else "",
            platform=_platform_text(config),
            layers=len(claim.layers),
            stored_bytes=sum(entry.size_bytes for entry in present),
            tar_bytes=sum(self._tar_bytes(entry.name) for entry in present),
        )

    def _tar_bytes(self, name: str) -> int:
        measured = self._measured.get(name)
        return measured.tar_bytes if measured is not None else 0

    def _check_config_bytes(self, claim: ImageClaim, raw: bytes) -> None:
        if claim.config_size_bytes is not None and len(raw) != claim.config_size_bytes:
            self._findings.add(
                claim.config_name, f"it has {len(raw)} bytes; {claim.source} says {claim.config_size_bytes}"
            )
        if claim.config_digest is None:
            self._findings.note(
                claim.config_name, f"the config's name is no digest; its digest is {Digest.of(raw)}"
            )
        elif digest_of_blob_name(claim.config_name) is None and Digest.of(raw) != claim.config_digest:
            self._findings.add(
                claim.config_name, f"its bytes have digest {Digest.of(raw)}, not the one in its name"
            )

    def _parse_config(self, claim: ImageClaim, raw: bytes) -> ImageConfig | None:
        if claim.is_artifact:
            return None
        try:
            return ImageConfig.parse(raw)
        except (UnsupportedImageError, IntegrityError) as error:
            self._findings.add(claim.config_name, f"engines can't read it: {error}")
            return None

    def _check_stored(self, claim: ImageClaim, layer: LayerClaim) -> None:
        entry = resolve(self._reader, layer.name)
        if entry is None:
            if layer.is_foreign:
                self._findings.note(
                    layer.name, "a foreign layer, which isn't here; engines fetch it by its URL"
                )
            else:
                self._findings.add(layer.name, f"it is missing; {claim.source} names it")
            return
        if layer.size_bytes is not None and entry.size_bytes != layer.size_bytes:
            self._findings.add(
                layer.name, f"it has {entry.size_bytes} bytes; {claim.source} says {layer.size_bytes}"
            )

    def _check_layers(self, claim: ImageClaim, config: ImageConfig) -> None:
        if not all(layer.is_tar for layer in claim.layers):
            return  # an attestation: statements, not file systems
        if len(config.diff_ids) != len(claim.layers):
            self._findings.add(
                claim.config_name,
                f"it has {len(config.diff_ids)} diff_ids; {claim.source} names {len(claim.layers)} layers",
            )
        for position, (layer, diff_id) in enumerate(zip(claim.layers, config.diff_ids, strict=False), 1):
            entry = resolve(self._reader, layer.name)
            if layer.is_encrypted:
                self._findings.note(layer.name, "it is encrypted: its diff_id can't be checked")
            if entry is None or entry.name not in self._measured or layer.is_encrypted:
                continue
            measured = self._measured[entry.name]
            if measured.damage:
                self._findings.add(layer.name, f"the layer can't be read: {measured.damage}")
            elif measured.tar != diff_id:
                self._findings.add(
                    layer.name,
                    f"layer {position} of image {config.digest.short} inflates to {measured.tar},"
                    f" but the config's diff_id is {diff_id}",
                )

    def _check_replaced(self) -> None:
        for position, entry in enumerate(self._reader.replaced):
            last = resolve(self._reader, entry.name)
            first_digest = self._measured[_replaced_key(position)].stored
            if last is not None and self._measured[last.name].stored == first_digest:
                self._findings.note(entry.name, "it is in the archive twice, with the same bytes")
            else:
                self._findings.add(
                    entry.name,
                    "it is in the archive twice, with different bytes: loaders differ in which they take",
                )

    def _tell_unused(self, claims: tuple[ImageClaim, ...], known: frozenset[str]) -> None:
        used = set(known | _LAYOUT_NAMES)
        for claim in claims:
            used.add(claim.config_name)
            for layer in claim.layers:
                used.add(layer.name)
                target = resolve(self._reader, layer.name)
                used.update((target.name,) if target is not None else ())
        unused = [
            name
            for name, entry in self._reader.entries.items()
            if entry.kind is not EntryKind.DIRECTORY and name not in used and not self._is_v1_blob(name)
        ]
        if unused:
            names = ", ".join(unused[:_LISTED]) + (", …" if len(unused) > _LISTED else "")
            self._findings.note("", f"nothing refers to {len(unused)} of its files: {names}")

    def _is_v1_blob(self, name: str) -> bool:
        """Since Docker 25 each layer's v1 json is a blob that nothing refers to."""
        entry = self._reader.entries[name]
        if digest_of_blob_name(name) is None or entry.size_bytes > _V1_LIMIT_BYTES or entry.is_cut:
            return False
        try:
            return (
                len(decode(read_whole(self._reader, entry, limit_bytes=_V1_LIMIT_BYTES), V1Document).id) == 64
            )
        except IntegrityError:
            return False


def _unique(claims: tuple[ImageClaim, ...]) -> tuple[ImageClaim, ...]:
    """manifest.json and index.json mostly name the same images: keep the layout's claim, which says more."""
    by_content: dict[tuple[str, ...], ImageClaim] = {}
    for claim in claims:
        key = (claim.config_name, *(layer.name for layer in claim.layers))
        before = by_content.get(key)
        if before is None:
            by_content[key] = claim
        elif before.source != claim.source:
            by_content[key] = _with_names(claim, before.names or claim.names)
        else:
            by_content[key] = _with_names(claim, (*before.names, *claim.names))
    return tuple(by_content.values())


def _with_names(claim: ImageClaim, names: tuple[str, ...]) -> ImageClaim:
    return ImageClaim(
        source=claim.source,
        names=tuple(dict.fromkeys(names)),
        config_name=claim.config_name,
        config_digest=claim.config_digest,
        config_size_bytes=claim.config_size_bytes,
        layers=claim.layers,
        is_artifact=claim.is_artifact,
    )


def _replaced_key(position: int) -> str:
    return f"\0{position}"


def _platform_text(config: ImageConfig | None) -> str:
    if config is None:
        return ""
    platform = config.platform
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)
