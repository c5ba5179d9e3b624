"""A large image made of this machine's own files, built on disk: real code and data, real compression ratios.

The same machine and the same arguments give the same bytes; a second call finds what the first one left.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import sysconfig
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from .images import DOCKER_CONFIG, BuiltImage, BuiltLayer, compact, layer_media_type, seal

MIB = 1024 * 1024
_FORMAT = 2
_FILE_MAX_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`total_tar_bytes` inflated, over `layers`, of which the largest holds `largest_share` of them all.

    `level`: of gzip, 0 to 3 where ISA-L packs. `seed`: another seed takes
    the files in another order, so that two images share nothing.
    """

    total_tar_bytes: int = 120 * MIB
    layers: int = 6
    largest_share: float = 0.55
    level: int = 1
    seed: int = 0

    def sizes(self) -> list[int]:
        """What each layer should hold: the largest second, the others falling off."""
        if self.layers == 1:
            return [self.total_tar_bytes]
        rest = self.total_tar_bytes * (1 - self.largest_share)
        weights = [1 / (position + 1) for position in range(self.layers - 1)]
        sizes = [int(rest * weight / sum(weights)) for weight in weights]
        sizes.insert(1, int(self.total_tar_bytes * self.largest_share))
        return sizes


def build(directory: Path, shape: Shape | None = None) -> BuiltImage:
    """The image of this shape; its layers are files in `directory`, kept for the next call."""
    shape = shape or Shape()
    key = hashlib.sha256(compact([_FORMAT, asdict(shape)])).hexdigest()[:16]
    record = directory / f"image-{key}.json"
    if record.exists():
        layers = [_recall(directory, each) for each in json.loads(record.read_text())]
        if all(isinstance(each.data, Path) and _has_size(each.data, each.size_bytes) for each in layers):
            return _image(layers)
    directory.mkdir(parents=True, exist_ok=True)
    files = _Files(shape.seed)
    layers = [_pack(directory, files.take(at, size), shape.level) for at, size in enumerate(shape.sizes())]
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps([_remember(each) for each in layers]))
    partial.replace(record)
    return _image(layers)


def _image(layers: list[BuiltLayer]) -> BuiltImage:
    history = [
        {"created": "2024-05-06T07:08:09Z", "created_by": f"COPY {at} /"} for at, _ in enumerate(layers)
    ]
    config = {
        "architecture": "amd64",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
        "created": "2024-05-06T07:08:09Z",
        "history": history,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
    }
    return seal(compact(config), DOCKER_CONFIG, layers, oci=False, platform="linux/amd64")


class _Files:
    """Hands out the machine's files, each once; when all are gone it starts again under another prefix."""

    def __init__(self, seed: int) -> None:
        stdlib = Path(sysconfig.get_paths()["stdlib"])
        site = Path(sysconfig.get_paths()["purelib"])
        roots = [stdlib, Path("/usr/lib"), Path("/usr/bin"), Path("/usr/share"), site]
        self._roots = roots[seed % len(roots) :] + roots[: seed % len(roots)]
        self._prefix = f"seed-{seed}/" if seed else ""
        self._round = 0
        self._used: set[Path] = set()

    def take(self, layer: int, total_bytes: int) -> Iterator[tuple[str, Path, int]]:
        """(name in the tar, file, size) of about this much tar in all, starting at another root each time."""
        left = total_bytes - 2 * tarfile.BLOCKSIZE
        while left > 8 * tarfile.BLOCKSIZE:
            start = layer % len(self._roots)
            for path in chain.from_iterable(map(_walk, self._roots[start:] + self._roots[:start])):
                if path in self._used:
                    continue
                size = path.lstat().st_size
                padded = 2 * tarfile.BLOCKSIZE + size
                if padded <= left and size <= _FILE_MAX_BYTES and os.access(path, os.R_OK):
                    self._used.add(path)
                    left -= padded
                    yield self._prefix + self._again + str(path).lstrip("/"), path, size
                if left <= 8 * tarfile.BLOCKSIZE:
                    return
            self._used.clear()
            self._round += 1

    @property
    def _again(self) -> str:
        return f"copy-{self._round}/" if self._round else ""


def _walk(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name != "__pycache__")
        for name in sorted(files):
            path = Path(directory, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


class _Packer(io.RawIOBase):
    """Takes the tar; hashes it, packs it, hashes and writes the packed bytes."""

    def __init__(self, target: IO[bytes], level: int) -> None:
        self._target = target
        self._packer = _gzip_packer(level)
        self.tar_hash, self.stored_hash = hashlib.sha256(), hashlib.sha256()
        self.tar_size_bytes = self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.tar_hash.update(data)
        self.tar_size_bytes += len(data)
        self._put(self._packer.compress(data))
        return len(data)

    def finish(self) -> None:
        self._put(self._packer.flush())

    def _put(self, packed: bytes) -> None:
        self.stored_hash.update(packed)
        self.size_bytes += len(packed)
        self._target.write(packed)


def _gzip_packer(level: int) -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compressobj(level, zlib.DEFLATED, 31)
    return isal_zlib.compressobj(min(level, 3), isal_zlib.DEFLATED, 31)


def _pack(directory: Path, files: Iterator[tuple[str, Path, int]], level: int) -> BuiltLayer:
    partial = directory / "layer.partial"
    with partial.open("wb") as target, _Packer(target, level) as packer:
        with tarfile.open(fileobj=packer, mode="w|", format=tarfile.PAX_FORMAT, bufsize=MIB) as tar:
            for name, path, size in files:
                info = tarfile.TarInfo(name)
                info.size, info.mtime = size, 1_700_000_000
                info.mode = 0o755 if os.access(path, os.X_OK) else 0o644
                with path.open("rb") as content:
                    tar.addfile(info, content)
        packer.finish()
        digest = "sha256:" + packer.stored_hash.hexdigest()
        layer = BuiltLayer(
            media_type=layer_media_type("gzip", oci=False),
            digest=digest,
            size_bytes=packer.size_bytes,
            diff_id="sha256:" + packer.tar_hash.hexdigest(),
            tar_size_bytes=packer.tar_size_bytes,
            data=directory / f"{digest[7:]}.layer",
        )
    partial.replace(directory / f"{digest[7:]}.layer")
    return layer


def _remember(layer: BuiltLayer) -> dict[str, Any]:
    return {
        "media_type": layer.media_type,
        "digest": layer.digest,
        "size_bytes": layer.size_bytes,
        "diff_id": layer.diff_id,
        "tar_size_bytes": layer.tar_size_bytes,
    }


def _recall(directory: Path, record: dict[str, Any]) -> BuiltLayer:
    return BuiltLayer(**record, data=directory / f"{record['digest'][7:]}.layer")


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.exists() and path.stat().st_size == size_bytes
