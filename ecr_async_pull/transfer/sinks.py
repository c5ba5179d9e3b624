"""Where a layer's inflated bytes go. Thread side: plain blocking files, one owner at a time."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """`size_bytes` bytes at `offset` of the file `path`."""

    path: Path
    offset: int
    size_bytes: int


class Sink(Protocol):
    """Takes a layer's tar, piece by piece and in order."""

    def open(self) -> None:
        """Called once before the first piece, and again to begin anew."""

    def write(self, piece: bytes | memoryview) -> None: ...

    def close(self) -> None:
        """Idempotent; called whatever happened."""

    @property
    def extent(self) -> Extent:
        """Where the bytes lie now."""


class SlotSink:
    """A slot of `slot_bytes` at `offset` of the partial archive.

    A layer that turns out larger than its slot never touches its neighbour: what is there is copied to
    the file `spill`, and the rest follows there. `slot_bytes` None: nothing is known, spill at once.
    `turn` is shared by the sinks of one archive: the kernel lets one write at a time into a file anyway,
    and has the others spin; here they wait, and the core is another thread's.
    """

    def __init__(
        self, *, archive: Path, offset: int, slot_bytes: int | None, spill: Path, turn: threading.Lock
    ) -> None:
        self._turn = turn
        self._archive = archive
        self._spill = spill
        self._slot_offset = offset
        self._slot_bytes = slot_bytes
        self._fd = -1
        self._written = 0
        self._is_spilled = slot_bytes is None

    def open(self) -> None:
        self.close()
        self._written = 0
        path = self._spill if self._is_spilled else self._archive
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not self._is_spilled and self._slot_bytes:
            reserve(self._fd, self._slot_offset, self._slot_bytes)

    def write(self, piece: bytes | memoryview) -> None:
        if (
            not self._is_spilled
            and self._slot_bytes is not None
            and self._written + len(piece) > self._slot_bytes
        ):
            self._begin_spill()
        with self._turn:
            write_at(self._fd, piece, self._base + self._written)
        self._written += len(piece)

    @property
    def _base(self) -> int:
        return 0 if self._is_spilled else self._slot_offset

    def _begin_spill(self) -> None:
        spill = os.open(self._spill, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        copy_range(self._fd, self._slot_offset, spill, 0, self._written)
        os.close(self._fd)
        self._fd, self._is_spilled = spill, True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def extent(self) -> Extent:
        path = self._spill if self._is_spilled else self._archive
        return Extent(path=path, offset=self._base, size_bytes=self._written)


def reserve(fd: int, offset: int, size_bytes: int) -> None:
    """Have the file system set these bytes aside (fallocate(2)) where it can: writing costs a third less.

    Not `os.posix_fallocate`, which writes zeros where the file system can't. Raises OSError for a full disk.
    """
    if _fallocate is None or _fallocate(fd, 0, offset, size_bytes) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.ENOSPC, errno.EDQUOT):
        raise OSError(number, os.strerror(number))


def _find_fallocate() -> Callable[[int, int, int, int], int] | None:
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return cast("Callable[[int, int, int, int], int]", call)


_fallocate = _find_fallocate()


def write_at(fd: int, piece: bytes | memoryview, offset: int) -> None:
    """`os.pwrite`, whole."""
    written = os.pwrite(fd, piece, offset)
    while written < len(piece):
        written += os.pwrite(fd, memoryview(piece)[written:], offset + written)


def copy_range(source: int, source_offset: int, target: int, target_offset: int, size_bytes: int) -> None:
    """Copy bytes between open files, sharing extents where the file system can (copy_file_range(2)).

    Raises OSError; EOFError where the source is shorter.
    """
    done = 0
    by_kernel = hasattr(os, "copy_file_range")
    while done < size_bytes:
        if by_kernel:
            try:
                moved = os.copy_file_range(
                    source,
                    target,
                    min(size_bytes - done, 1 << 30),
                    source_offset + done,
                    target_offset + done,
                )
            except OSError:
                by_kernel = (
                    False  # another file system, or a kernel that can't; a real fault shows again below
                )
                continue
        else:
            piece = os.pread(source, min(size_bytes - done, 1 << 18), source_offset + done)
            write_at(target, piece, target_offset + done)
            moved = len(piece)
        if moved == 0:
            raise EOFError(f"{size_bytes - done} bytes are missing in the file to copy from")
        done += moved
