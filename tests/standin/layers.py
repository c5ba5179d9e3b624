"""Layers made from bytes: tars of files, packed in every way that a registry holds them."""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import sys
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Compression = Literal["gzip", "none", "zstd", "bzip2", "xz"]
Files = Sequence[tuple[str, bytes]]

DOCKER = "application/vnd.docker."
OCI = "application/vnd.oci.image."


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltLayer:
    """One layer: `data` is the stored bytes, or the file that holds them; `size_bytes` is theirs.

    A foreign layer has `urls`; with `is_served` false the registry doesn't have its bytes.
    """

    media_type: str
    digest: str
    size_bytes: int
    diff_id: str
    tar_size_bytes: int
    data: bytes | Path
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    is_served: bool = True

    def descriptor(self) -> dict[str, Any]:
        wire: dict[str, Any] = {"mediaType": self.media_type, "size": self.size_bytes, "digest": self.digest}
        if self.urls:
            wire["urls"] = list(self.urls)
        if self.annotations:
            wire["annotations"] = dict(self.annotations)
        return wire

    def stored(self) -> bytes:
        """The stored bytes, read whole: for small images."""
        return self.data if isinstance(self.data, bytes) else self.data.read_bytes()


def make_tar(files: Files) -> bytes:
    """A layer's tar: a name that ends in `/` is a directory, one with ` -> ` a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files:
            path, arrow, target = name.partition(" -> ")
            info = tarfile.TarInfo(path.rstrip("/"))
            info.mtime, info.mode = 1_700_000_000, 0o644
            if arrow:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
            elif path.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def compress(tar: bytes, compression: Compression, *, level: int = 6, members: int = 1) -> bytes:
    """`members` cuts a gzip, zstd, bzip2 or xz stream into that many, one after another."""
    step = max(1, -(-len(tar) // members))
    pieces = [tar[at : at + step] for at in range(0, len(tar), step)] or [b""]
    match compression:
        case "none":
            return tar
        case "gzip":
            return b"".join(_gzip(piece, level) for piece in pieces)
        case "zstd":
            return b"".join(zstd.compress(piece, level) for piece in pieces)
        case "bzip2":
            return b"".join(bz2.compress(piece, level) for piece in pieces)
        case "xz":
            return b"".join(lzma.compress(piece, preset=level) for piece in pieces)


def _gzip(data: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def layer_media_type(compression: Compression, *, oci: bool, foreign: bool = False) -> str:
    if oci:
        kind = "layer.nondistributable.v1.tar" if foreign else "layer.v1.tar"
        return OCI + kind + ("" if compression == "none" else f"+{compression}")
    kind = "image.rootfs.foreign.diff.tar" if foreign else "image.rootfs.diff.tar"
    return DOCKER + kind + ("" if compression == "none" else f".{compression}")


def make_layer(
    content: Files | bytes,
    *,
    oci: bool = False,
    compression: Compression = "gzip",
    level: int = 6,
    members: int = 1,
    media_type: str | None = None,
    urls: Iterable[str] = (),
    annotations: Mapping[str, str] | None = None,
    is_served: bool = True,
) -> BuiltLayer:
    """`content` is files, or the bytes of the tar itself."""
    tar = content if isinstance(content, bytes) else make_tar(content)
    stored = compress(tar, compression, level=level, members=members)
    urls = tuple(urls)
    return BuiltLayer(
        media_type=media_type or layer_media_type(compression, oci=oci, foreign=bool(urls)),
        digest=sha256(stored),
        size_bytes=len(stored),
        diff_id=sha256(tar),
        tar_size_bytes=len(tar),
        data=stored,
        urls=urls,
        annotations=annotations or {},
        is_served=is_served,
    )
