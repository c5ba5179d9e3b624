"""Which byte ranges of a partial file have landed: an append-only journal beside the file.

Format, little-endian: a header (magic, size of the blob u64, sha256 of the identity, CRC-32 of these), then
records of 20 bytes: start u64, end u64, CRC-32 of these begun with the header's. A record that doesn't match
ends the journal: it is the torn tail of a crash, or of another blob.

What survives: a record goes to the kernel at once, so a killed process loses nothing. After a power cut the
journal may claim bytes that the data file lost, for neither is synced per record. That is why a journal only
says what need not be *fetched*; the digest of the whole blob decides, and where it is wrong the blob is
fetched anew (`reset`).
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path

from ..digest import Digest
from ..errors import storage_errors
from ..model.spans import Interval, Spans
from .atomic import write_atomic

_LOG = logging.getLogger(__name__)
_MAGIC = b"EAPJRNL1"
_HEADER = struct.Struct("<8sQ32s")
_CHECKSUM = struct.Struct("<I")
_SPAN = struct.Struct("<QQ")
_RECORD_BYTES = _SPAN.size + _CHECKSUM.size
_HEADER_BYTES = _HEADER.size + _CHECKSUM.size


def journal_path(partial: Path) -> Path:
    """Where the journal of the data file `partial` lies."""
    return partial.with_name(partial.name + ".journal")


class Journal:
    """The landed ranges of one partial file, for one writer at a time (the caller holds the lock).

    `open`, `flush`, `reset`, `close` and `delete` block: call them through `asyncio.to_thread`. `add` is one
    write of 20 bytes into the page cache and may be called on the event loop.
    """

    def __init__(self, path: Path, descriptor: int, header: bytes, spans: Spans, *, size_bytes: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._header = header
        self._spans = spans
        self._size_bytes = size_bytes
        self._end = _HEADER_BYTES + _RECORD_BYTES * len(spans.intervals())
        self._is_failing = False

    @classmethod
    def open(
        cls,
        partial: Path,
        *,
        size_bytes: int,
        identity: str,
        mode: int | None = None,
        data: Path | None = None,
        data_offset: int = 0,
    ) -> Journal:
        """Open or begin the journal of the data file `partial`, which may not exist yet.

        `size_bytes` is the whole blob's size and `identity` names it (its digest): a journal of anything else
        is begun anew. Ranges beyond the present end of the data file are dropped. `mode` as for
        `write_atomic`. Where the bytes gather elsewhere, `data` and `data_offset` say in which file and from
        where on. Raises `StorageError`.
        """
        path = journal_path(partial)
        header = _encode_header(size_bytes, identity)
        with storage_errors("keep the journal", path):
            try:
                raw = path.read_bytes() if not path.is_symlink() else b""
            except FileNotFoundError:
                raw = b""
            data_bytes = max(0, _data_bytes(data or partial) - data_offset)
            spans = _decode(raw, header, size_bytes, data_bytes=data_bytes)
            content = header + b"".join(_encode(start, end, header) for start, end in spans.intervals())
            # Always the shortest form: no torn tail, and no claim left over for a data file that grows again.
            if content != raw:
                write_atomic(path, content, mode=mode)
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return cls(path, descriptor, header, spans, size_bytes=size_bytes)

    @property
    def ranges(self) -> tuple[Interval, ...]:
        """Landed half-open intervals, merged and sorted."""
        return self._spans.intervals()

    @property
    def landed_bytes(self) -> int:
        return self._spans.total()

    def missing(self) -> tuple[Interval, ...]:
        """Half-open intervals that are still to be fetched, sorted."""
        return self._spans.gaps(self._size_bytes)

    def add(self, start: int, end: int) -> None:
        """Note that [start, end) was written to the data file.

        Never raises for a full disk: a range that can't be noted costs only its bytes, once, after a crash.
        """
        assert 0 <= start < end <= self._size_bytes, (start, end, self._size_bytes)
        if not self._spans.add(start, end):
            return
        assert self._descriptor >= 0, "the journal is closed"
        try:
            # At a known offset: the next record overwrites a short write, which so can't shift the rest.
            if os.pwrite(self._descriptor, _encode(start, end, self._header), self._end) == _RECORD_BYTES:
                self._end += _RECORD_BYTES
        except OSError as error:
            if not self._is_failing:
                self._is_failing = True
                _LOG.warning(
                    "can't write the journal %s: %s; a crash would lose more", self._path, error.strerror
                )

    def reset(self) -> None:
        """Forget all ranges: the bytes turned out to be wrong."""
        self._spans = Spans()
        self._end = _HEADER_BYTES
        with storage_errors("reset the journal", self._path):
            os.ftruncate(self._descriptor, _HEADER_BYTES)

    def flush(self) -> None:
        """Bring the journal to the disk itself. Sync the data file first where a power cut matters."""
        with storage_errors("sync the journal", self._path):
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Idempotent. The file stays, for a later `open`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def delete(self) -> None:
        """Close and remove the journal's file."""
        self.close()
        with storage_errors("remove the journal", self._path):
            self._path.unlink(missing_ok=True)


def _data_bytes(partial: Path) -> int:
    try:
        return partial.lstat().st_size
    except FileNotFoundError:
        return 0


def _encode_header(size_bytes: int, identity: str) -> bytes:
    fixed = _HEADER.pack(_MAGIC, size_bytes, bytes.fromhex(Digest.of(identity.encode()).hex))
    return fixed + _CHECKSUM.pack(zlib.crc32(fixed))


def _encode(start: int, end: int, header: bytes) -> bytes:
    span = _SPAN.pack(start, end)
    return span + _CHECKSUM.pack(zlib.crc32(span, *_CHECKSUM.unpack(header[-_CHECKSUM.size :])))


def _decode(raw: bytes, header: bytes, size_bytes: int, *, data_bytes: int) -> Spans:
    spans = Spans()
    if not raw.startswith(header):
        return spans
    limit = min(size_bytes, data_bytes)
    for offset in range(_HEADER_BYTES, len(raw) - _RECORD_BYTES + 1, _RECORD_BYTES):
        start, end = _SPAN.unpack_from(raw, offset)
        if raw[offset : offset + _RECORD_BYTES] != _encode(start, end, header) or start >= end:
            break
        if start < limit:
            spans.add(start, min(end, limit))
    return spans
