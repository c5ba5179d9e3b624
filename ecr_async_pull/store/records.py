"""Which outputs already are which image in which format, so that a pull can say "up to date".

One record an output path (and `key`, where several outputs share a directory), in a state directory (0700,
files 0600), named after both. It holds what the
output was made of (the fingerprint, which the caller computes from digests, format and names) and the file's
identity when it was finished. Anything that changed the file since changed its size, times or inode.
Blocking. Trouble with the records never fails a pull: without one, an output isn't known to be current.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import msgspec

from ..digest import Digest
from .atomic import write_atomic

_LOG = logging.getLogger(__name__)


class OutputRecord(msgspec.Struct, frozen=True, kw_only=True):
    """For a directory: the identity of its `index.json`, and `blobs` lists path and size of each blob."""

    fingerprint: str
    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    blobs: tuple[tuple[str, int], ...] = ()


class OutputRecords:
    """The records in one state directory, made when the first record is written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def is_current(self, output_path: Path, fingerprint: str, *, key: str = "") -> bool:
        """The output is, untouched, what was remembered under this fingerprint.

        Never raises for the disk's troubles.
        """
        return self._untouched(output_path, key) == fingerprint

    def has(self, output_path: Path, *, key: str = "") -> bool:
        """The output is, untouched, what something was remembered of."""
        return self._untouched(output_path, key) is not None

    def _untouched(self, output_path: Path, key: str) -> str | None:
        """The fingerprint of an output that is what it was when that was remembered."""
        try:
            record = msgspec.json.decode(self._path(output_path, key).read_bytes(), type=OutputRecord)
            now = _observe(output_path, record.fingerprint, blobs=record.blobs)
            return record.fingerprint if record == now else None
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _LOG.debug("can't tell whether %s is up to date: %s", output_path, error)
            return None

    def remember(self, output_path: Path, fingerprint: str, *, key: str = "") -> None:
        """Call when the finished output has its final name. Never raises for the disk's troubles."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            record = _observe(output_path, fingerprint, blobs=_blobs(output_path))
            write_atomic(self._path(output_path, key), msgspec.json.encode(record), mode=0o600)
        except OSError as error:
            _LOG.debug("can't note that %s is up to date: %s", output_path, error)

    def forget(self, output_path: Path, *, key: str = "") -> None:
        """Call before an output is changed in place. Never raises for the disk's troubles."""
        try:
            self._path(output_path, key).unlink(missing_ok=True)
        except OSError as error:
            _LOG.debug("can't forget %s: %s", output_path, error)

    def _path(self, output_path: Path, key: str) -> Path:
        name = os.fsencode(output_path.absolute()) + (b"\0" + key.encode() if key else b"")
        return self._directory / f"{Digest.of(name).hex}.json"


def _observe(output_path: Path, fingerprint: str, *, blobs: tuple[tuple[str, int], ...]) -> OutputRecord:
    """The record as it would be written now; `blobs` with their present sizes. Raises `OSError`."""
    status = output_path.stat()
    if stat.S_ISDIR(status.st_mode):
        status = (output_path / "index.json").stat()
    return OutputRecord(
        fingerprint=fingerprint,
        device=status.st_dev,
        inode=status.st_ino,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        blobs=tuple((name, (output_path / "blobs" / name).stat().st_size) for name, _ in blobs),
    )


def _blobs(output_path: Path) -> tuple[tuple[str, int], ...]:
    if not output_path.is_dir():
        return ()
    root = output_path / "blobs"
    paths = sorted(path for path in root.glob("*/*") if path.is_file())
    return tuple((str(path.relative_to(root)), path.stat().st_size) for path in paths)
