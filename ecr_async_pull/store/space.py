"""Is there room? Asked before the first byte is fetched. Blocking."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import StorageError, storage_errors
from ..model.quantity import format_bytes

_MARGIN_BYTES = 1024 * 1024
_MARGIN_DIVISOR = 64


@dataclass(slots=True)
class _Need:
    size_bytes: int = 0
    paths: list[Path] = field(default_factory=list)


def check_space(needs: Mapping[Path, int]) -> None:
    """Raise `StorageError` unless every file system has room for the bytes that its paths need together.

    Paths needn't exist: their nearest parent that does tells the file system. On top of what is asked for,
    1/64 and 1 MiB must be free, for journals, headers and the file system's own blocks. What is free is what
    this user may still write, without root's reserve; quotas show only later.
    """
    by_device: dict[int, _Need] = {}
    for path, size_bytes in needs.items():
        existing = _existing(path)
        with storage_errors("look at the space of", existing):
            need = by_device.setdefault(existing.stat().st_dev, _Need())
        need.size_bytes += size_bytes
        need.paths.append(existing)
    for need in by_device.values():
        _check(need)


def room_bytes(path: Path) -> int:
    """For how many bytes `check_space` finds room at `path`; 0 where that can't be told."""
    try:
        free_bytes = _free_bytes(_existing(path)) or 0
    except OSError:
        return 0
    return max(0, (free_bytes - _MARGIN_BYTES) * _MARGIN_DIVISOR // (_MARGIN_DIVISOR + 1))


def allocated_bytes(path: Path) -> int:
    """What the file takes on the disk; holes don't count, and one that isn't there takes nothing."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _check(need: _Need) -> None:
    if need.size_bytes <= 0:
        return
    with storage_errors("look at the space of", need.paths[0]):
        free_bytes = _free_bytes(need.paths[0])
    if free_bytes is None:
        return
    wanted_bytes = need.size_bytes + need.size_bytes // _MARGIN_DIVISOR + _MARGIN_BYTES
    if free_bytes < wanted_bytes:
        places = ", ".join(sorted({str(path) for path in need.paths}))
        raise StorageError(
            f"not enough space: {format_bytes(wanted_bytes)} are needed in {places},"
            f" {format_bytes(free_bytes)} are free; free {format_bytes(wanted_bytes - free_bytes)} more"
            " or choose a directory on another file system"
        )


def _free_bytes(path: Path) -> int | None:
    """What this user may still write there; None where the file system doesn't say. Raises `OSError`."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize if status.f_blocks else None


def _existing(path: Path) -> Path:
    for candidate in (path.absolute(), *path.absolute().parents):
        if candidate.exists():
            return candidate
    return Path("/")
