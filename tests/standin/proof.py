"""Holds a tar against the image that was served, with nothing but tarfile, hashlib and json."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .images import BuiltImage

_PIECE_BYTES = 1024 * 1024


class ProofError(Exception):
    """The tar is not the image; the message says where."""


def prove(path: Path, image: BuiltImage, *, name: str) -> Iterator[str]:
    """Yields a line for each thing found to be as it must; raises `ProofError` at the first that isn't."""
    with tarfile.open(path) as tar:
        entries = _load(tar, "manifest.json")
        _demand(len(entries) == 1, f"manifest.json has {len(entries)} images")
        entry = entries[0]
        config = _read(tar, entry["Config"])
        digest = "sha256:" + hashlib.sha256(config).hexdigest()
        _demand(config == image.config_raw, f"{entry['Config']} is not the config that was served")
        yield f"image ID    {digest} = sha256 of the config's {len(config)} bytes"
        _demand(entry["RepoTags"] == [name], f"RepoTags is {entry['RepoTags']}, not [{name}]")
        yield f"name        {name}"
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        _demand(len(entry["Layers"]) == len(diff_ids), f"{len(entry['Layers'])} layers, not {len(diff_ids)}")
        for position, (member, diff_id) in enumerate(zip(entry["Layers"], diff_ids, strict=True)):
            actual, size_bytes = _digest(tar, member)
            _demand(actual == diff_id, f"layer {position} ({member}) has digest {actual}, not {diff_id}")
            yield f"layer {position:<5} {diff_id} = sha256 of its {size_bytes / 1e6:,.1f} MB"
        count = 0
        for info in tar.getmembers():
            if info.isreg() and info.name.startswith("blobs/sha256/"):
                actual, _ = _digest(tar, info.name)
                _demand(actual == "sha256:" + info.name[13:], f"{info.name} has digest {actual}")
                count += 1
        if count:
            yield f"blobs       {count} named by the sha256 of their bytes"


def contents(path: Path) -> Iterator[str]:
    """As `tar -tv` would list it."""
    with tarfile.open(path) as tar:
        for info in tar:
            link = f" -> {info.linkname}" if info.issym() or info.islnk() else ""
            yield f"{info.size:>14,}  {info.name}{'/' if info.isdir() else ''}{link}"


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    with _open(tar, name) as file:
        return file.read()


def _open(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        file = tar.extractfile(name)
    except KeyError as error:
        raise ProofError(f"there is no {name}") from error
    if file is None:
        raise ProofError(f"{name} is no file")
    return file


def _load(tar: tarfile.TarFile, name: str) -> Any:
    return json.loads(_read(tar, name))


def _digest(tar: tarfile.TarFile, name: str) -> tuple[str, int]:
    state, size_bytes = hashlib.sha256(), 0
    with _open(tar, name) as file:
        while piece := file.read(_PIECE_BYTES):
            state.update(piece)
            size_bytes += len(piece)
    return "sha256:" + state.hexdigest(), size_bytes


def _demand(condition: object, message: str) -> None:
    if not condition:
        raise ProofError(message)
