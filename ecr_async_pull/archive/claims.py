"""What an archive says it holds, before any of it was checked."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from ..digest import Digest
from ..errors import IntegrityError
from ..settings import MIB
from .reader import ArchiveReader, read_whole, resolve
from .report import Findings

_DOCUMENT_LIMIT_BYTES = 16 * MIB
_NAMED_BY_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})(?:\.json)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerClaim:
    """A layer at its place. `name` is a member's; `size_bytes` as stored, None where nothing tells it.

    `is_tar` is false for what is no file system layer (an attestation's statement, an artifact's file).
    """

    name: str
    size_bytes: int | None = None
    is_tar: bool = True
    is_foreign: bool = False
    is_encrypted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageClaim:
    """One image as `source` (a member's name) describes it. `names` are `repository:tag`, as written there.

    `config_digest` is None where the config's name is no digest. `is_artifact`: it has no image config.
    """

    source: str
    names: tuple[str, ...]
    config_name: str
    config_digest: Digest | None
    config_size_bytes: int | None = None
    layers: tuple[LayerClaim, ...] = ()
    is_artifact: bool = False


def blob_name(digest: Digest) -> str:
    """Where an image layout keeps the blob (image-spec image-layout.md)."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def digest_of_blob_name(name: str) -> Digest | None:
    """The digest that `blobs/ALGORITHM/HEX` stands for, None for any other name."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs":
        return None
    try:
        return Digest.parse(f"{parts[1]}:{parts[2]}")
    except IntegrityError:
        return None


def digest_of_config_name(name: str) -> Digest | None:
    """The config's digest by its name: `HEX.json`, `sha256:HEX`, `blobs/sha256/HEX`; None for others."""
    match = _NAMED_BY_DIGEST.fullmatch(posixpath.basename(name))
    return digest_of_blob_name(name) or (Digest("sha256", match[1]) if match else None)


def read_document(reader: ArchiveReader, name: str, findings: Findings, *, wanted_by: str) -> bytes | None:
    """The bytes of a small member; what is wrong with it goes to `findings`, and then it is None."""
    entry = resolve(reader, name)
    if entry is None:
        findings.add(name, f"it is missing; {wanted_by} names it")
        return None
    if entry.is_cut:
        return None
    try:
        return read_whole(reader, entry, limit_bytes=_DOCUMENT_LIMIT_BYTES)
    except IntegrityError as error:
        findings.add(name, str(error))
        return None
