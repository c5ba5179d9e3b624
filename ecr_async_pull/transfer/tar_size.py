"""What a stored blob tells of its inflated size, and in which of its bytes. Pure; a guess until inflated."""

from __future__ import annotations

import sys

from ..settings import KIB

_GZIP_SIZE_BYTES = 4
_GZIP_TAIL_BYTES = 16 * KIB
_GZIP_MAX_RATIO = 1032
_SIZE_MODULUS = 1 << 32
_ZSTD_HEADER_BYTES = 18


def telling_range(media_type: str, stored_bytes: int) -> tuple[int, int] | None:
    """The half-open range of a blob that tells its inflated size, None where no part of it does.

    The last bytes of a gzip stream (with some more, which have to come anyway); a zstd frame's header
    (RFC 8878, 3.1.1.1).
    """
    if "zstd" in media_type:
        return 0, min(stored_bytes, _ZSTD_HEADER_BYTES)
    if "gzip" in media_type:
        return max(0, stored_bytes - _GZIP_TAIL_BYTES), stored_bytes
    return None


def told_tar_size(media_type: str, piece: bytes, stored_bytes: int) -> int | None:
    """What the bytes of the telling range tell."""
    if "zstd" in media_type:
        return _zstd_tar_size(piece)
    return _gzip_tar_size(piece[-_GZIP_SIZE_BYTES:], stored_bytes)


def _gzip_tar_size(last_four: bytes, stored_bytes: int) -> int:
    """Guess a gzip blob's inflated size from its last four bytes (RFC 1952, ISIZE: modulo 2^32).

    Exact for single-member streams whose inflated size is below 4 GiB or below `stored_bytes` + 4 GiB:
    the smallest candidate that is not below the stored size is taken. Any guess is checked by inflating.
    """
    size = int.from_bytes(last_four, "little")
    least = stored_bytes - stored_bytes // 100 - 64
    while size < least and size + _SIZE_MODULUS <= stored_bytes * _GZIP_MAX_RATIO:
        size += _SIZE_MODULUS
    return size


def _zstd_tar_size(first: bytes) -> int | None:
    """The content size that a zstd frame header names, or None where it names none."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    try:
        return zstd.get_frame_info(first).decompressed_size
    except zstd.ZstdError:
        return None
