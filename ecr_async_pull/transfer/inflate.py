"""Inflating without I/O: stored bytes in, bounded pieces of the layer's tar out.

Every compression is found by its magic bytes (image-spec layer.md; media types lie), any number of gzip
members or zstd frames is read, and no piece is larger than `PIECE_BYTES`, whatever the input claims.
"""

from __future__ import annotations

import enum
import sys
import zlib
from collections.abc import Generator, Iterator
from typing import Protocol, cast

from ..errors import IntegrityError
from ..settings import KIB, MIB

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

try:
    from isal import igzip_lib
except ImportError:  # no wheel for this machine: zlib is half as fast and as right
    _HAS_ISAL = False
else:
    _HAS_ISAL = True

PIECE_BYTES = 256 * KIB
MAGIC_BYTES = 6
"""So many first bytes decide what a blob is compressed with."""
_GZIP_LONGEST_HEADER_BYTES = MIB
_XZ_MEMORY_BYTES = 64 * MIB


class Compression(enum.Enum):
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    XZ = "xz"


_MAGIC = (
    (b"\x1f\x8b", Compression.GZIP),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    (b"BZh", Compression.BZIP2),
    (b"\xfd7zXZ\x00", Compression.XZ),
)


def detect(first: bytes) -> Compression:
    """What a blob that begins with these bytes is compressed with."""
    for magic, compression in _MAGIC:
        if first.startswith(magic):
            return compression
    # A skippable zstd frame (RFC 8878, 3.1.2) may come first.
    if len(first) >= 4 and first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F:
        return Compression.ZSTD
    return Compression.NONE


class _Decompressor(Protocol):
    """One member or frame; the interface of `bz2.BZ2Decompressor`."""

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


class _ZlibDecompressor:
    """`zlib`'s object behind the interface of `bz2.BZ2Decompressor`."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)
        self._tail: bytes = b""

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        piece = self._inner.decompress(self._tail + bytes(data) if self._tail else data, max_length)
        self._tail = self._inner.unconsumed_tail
        self.needs_input = not self._tail and len(piece) < max_length
        return piece

    needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class Inflater:
    """Turns stored bytes into tar bytes. `feed` in order, then `finish`; raises `IntegrityError`."""

    def __init__(self, compression: Compression) -> None:
        self.compression = compression
        self._is_between_members = True
        self._member: _Decompressor | None = None
        self._held = b""
        self._errors = _errors_of(compression)

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Yield what these bytes inflate to, in pieces of at most `PIECE_BYTES`."""
        if self.compression is Compression.NONE:
            for start in range(0, len(data), PIECE_BYTES):
                yield data[start : start + PIECE_BYTES]
            return
        if self._held:
            data, self._held = self._held + data, b""
        while len(data):
            if self._is_between_members:
                data = self._begin_member(data)
                if not len(data):
                    return
            assert self._member is not None
            data = yield from self._drain(self._member, data)

    def _begin_member(self, data: bytes | memoryview) -> bytes | memoryview:
        if self._member is not None:
            data = bytes(data).lstrip(b"\0")  # zero padding between and after members, as gzip allows it
            if not data:
                return data
        if self.compression is Compression.GZIP and not _has_whole_gzip_header(data):
            self._held = bytes(data)
            return b""
        self._member = _new_member(self.compression)
        self._is_between_members = False
        return data

    def _drain(
        self, member: _Decompressor, data: bytes | memoryview
    ) -> Generator[bytes, None, bytes | memoryview]:
        """Yield all that `data` gives; returns what lies behind the member's end."""
        try:
            while True:
                piece = member.decompress(data, PIECE_BYTES)
                data = b""
                if piece:
                    yield piece
                if member.eof:
                    self._is_between_members = True
                    return member.unused_data
                if member.needs_input:
                    return b""
        except self._errors as error:
            raise IntegrityError(f"its {self.compression.value} stream is damaged ({error})") from error

    def finish(self) -> None:
        """Call after the last byte: raises `IntegrityError` where the stream ends too early."""
        if self._held or (self.compression is not Compression.NONE and not self._is_between_members):
            raise IntegrityError(f"its {self.compression.value} stream ends too early")


def _has_whole_gzip_header(data: bytes | memoryview) -> bool:
    """Whether a member's header (RFC 1952, 2.3) is here whole, or what is here is none.

    ISA-L loses its place in a header of several fields, or with a checksum, that comes in two pieces.
    """
    fixed = bytes(data[:10])
    if not b"\x1f\x8b".startswith(fixed[:2]):
        return True  # for the decompressor to refuse
    if len(fixed) < 10 or not (flags := fixed[3]) & 0x1E:
        return len(fixed) == 10
    head, end = bytes(data[:_GZIP_LONGEST_HEADER_BYTES]), 10
    if len(head) == _GZIP_LONGEST_HEADER_BYTES:
        return True
    if flags & 4:
        end += 2 + int.from_bytes(head[10:12], "little")
    for flag in (8, 16):
        if flags & flag:
            end = head.find(0, end) + 1
            if not end:
                return False
    return end + (flags & 2) <= len(head)


def _new_member(compression: Compression) -> _Decompressor:
    if compression is Compression.GZIP:
        if not _HAS_ISAL:
            return _ZlibDecompressor()
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    if compression is Compression.ZSTD:
        return zstd.ZstdDecompressor()
    if compression is Compression.BZIP2:
        import bz2

        return bz2.BZ2Decompressor()
    import lzma

    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)


def _errors_of(compression: Compression) -> tuple[type[Exception], ...]:
    if compression is Compression.GZIP:
        return (cast("type[Exception]", igzip_lib.IsalError) if _HAS_ISAL else zlib.error, EOFError)
    if compression is Compression.ZSTD:
        return (zstd.ZstdError, EOFError)
    if compression is Compression.XZ:
        import lzma

        return (lzma.LZMAError, EOFError)
    return (OSError, EOFError, ValueError)
