"""Inflating: every compression, any number of members, bounded pieces, and damage that never passes."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import random
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecr_async_pull.errors import IntegrityError
from ecr_async_pull.transfer.inflate import (
    MAGIC_BYTES,
    PIECE_BYTES,
    Compression,
    Inflater,
    detect,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: gzip.compress,
    Compression.ZSTD: zstd.compress,
    Compression.BZIP2: bz2.compress,
    Compression.XZ: lzma.compress,
}
TEXT = b"".join(b"%d %d\n" % (number, number * number) for number in range(20_000))
PACKED = pytest.mark.parametrize("compression", list(PACK), ids=lambda one: one.value)


def inflate(stored: bytes, step: int = 64 * 1024) -> bytes:
    inflater = Inflater(detect(stored[:MAGIC_BYTES]))
    tar = b""
    for at in range(0, len(stored), step):
        for piece in inflater.feed(memoryview(stored)[at : at + step]):
            assert 0 < len(piece) <= PIECE_BYTES
            tar += piece
    inflater.finish()
    return tar


@PACKED
@settings(deadline=None, max_examples=30)
@given(step=st.integers(1, 5000))
def test_the_tar_is_the_same_however_the_bytes_arrive(compression: Compression, step: int) -> None:
    stored = PACK[compression](TEXT[:30_000])
    assert inflate(stored, step) == TEXT[:30_000]


@PACKED
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_members_follow_one_another(compression: Compression, step: int) -> None:
    pack = PACK[compression]
    assert inflate(pack(b"one") + pack(b"") + pack(b"two"), step) == b"onetwo"


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_zeros_behind_and_between_gzip_members_are_padding(step: int) -> None:
    stored = gzip.compress(b"one") + bytes(700) + gzip.compress(b"two") + bytes(1024)
    assert inflate(stored, step) == b"onetwo"


@PACKED
def test_a_stream_cut_anywhere_is_refused(compression: Compression) -> None:
    stored = PACK[compression](TEXT[:5000])
    for end in range(MAGIC_BYTES, len(stored), max(1, len(stored) // 40)):
        with pytest.raises(IntegrityError):
            inflate(stored[:end])
    with pytest.raises(IntegrityError):
        inflate(stored[:-1])


@PACKED
def test_a_second_member_cut_anywhere_is_refused(compression: Compression) -> None:
    first, second = PACK[compression](b"one"), PACK[compression](b"two" * 50)
    for end in range(1, len(second)):
        with pytest.raises(IntegrityError):
            inflate(first + second[:end])


@PACKED
def test_rubbish_behind_the_stream_is_refused(compression: Compression) -> None:
    with pytest.raises(IntegrityError):
        inflate(PACK[compression](b"one") + b"rubbish behind it, and enough of it")


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.XZ, Compression.BZIP2])
def test_a_flipped_bit_of_a_checked_stream_never_passes(compression: Compression) -> None:
    stored = bytearray(PACK[compression](TEXT[:20_000]))
    for at in range(12, len(stored), max(1, len(stored) // 60)):
        stored[at] ^= 4
        with contextlib.suppress(IntegrityError):
            assert inflate(bytes(stored)) == TEXT[:20_000]  # a bit that means nothing
        stored[at] ^= 4


@pytest.mark.parametrize("compression", list(PACK), ids=lambda one: one.value)
def test_a_bomb_takes_no_memory(compression: Compression) -> None:
    stored = PACK[compression](bytes(64 << 20))
    inflater, total = Inflater(compression), 0
    tracemalloc.start()
    try:
        for piece in inflater.feed(stored):
            total += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    inflater.finish()
    assert total == 64 << 20
    dictionary = 8 << 20 if compression is Compression.XZ else 0
    assert peak < 12 * PIECE_BYTES + dictionary


def test_a_plain_tar_passes_in_bounded_pieces() -> None:
    data = random.Random(1).randbytes(PIECE_BYTES * 2 + 5)
    inflater = Inflater(Compression.NONE)
    pieces = list(inflater.feed(memoryview(data)))
    inflater.finish()
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) == PIECE_BYTES


def test_a_skippable_frame_in_front_is_zstd() -> None:
    stored = b"\x53\x2a\x4d\x18\x05\x00\x00\x00hello" + zstd.compress(b"tar")
    assert inflate(stored) == b"tar"


@pytest.mark.parametrize("first", [b"", b"\x1f", b"BZ", b"ustar\0", b"\xfd7zXZ"])
def test_what_has_no_magic_is_plain(first: bytes) -> None:
    assert detect(first) is Compression.NONE


_WITHOUT_ISAL = """
import sys
sys.modules["isal"] = None
from ecr_async_pull.transfer import inflate
assert not inflate._HAS_ISAL
from ecr_async_pull.errors import IntegrityError
import gzip
def run(stored, step):
    inflater = inflate.Inflater(inflate.Compression.GZIP)
    tar = b"".join(bytes(p) for at in range(0, len(stored), step) for p in inflater.feed(stored[at:at+step]))
    inflater.finish()
    return tar
text = bytes(3_000_000) + bytes(range(256)) * 5000
stored = gzip.compress(text[:2_000_000]) + bytes(512) + gzip.compress(text[2_000_000:]) + bytes(10)
for step in (1 << 20, 1000, 13):
    assert run(stored, step) == text
for broken in (stored[:-11], stored[:100], stored[:-14] + b"xxxx" + stored[-10:], stored + b"rubbish"):
    try:
        run(broken, 4096)
    except IntegrityError:
        continue
    raise AssertionError(len(broken))
assert max(len(p) for p in inflate.Inflater(inflate.Compression.GZIP).feed(stored)) <= inflate.PIECE_BYTES
"""


def test_zlib_does_the_same_where_isal_is_missing() -> None:
    result = subprocess.run([sys.executable, "-c", _WITHOUT_ISAL], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_stored_deflate_blocks_and_every_level_inflate() -> None:
    for level in (0, 1, 9):
        packer = zlib.compressobj(level, zlib.DEFLATED, 31)
        assert inflate(packer.compress(TEXT) + packer.flush(zlib.Z_SYNC_FLUSH) + packer.flush()) == TEXT


@pytest.mark.parametrize("flags", range(0, 32, 2))
def test_gzip_headers_of_every_form_are_read_wherever_they_are_cut(flags: int) -> None:
    header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    header += b"\x03\x00abc" if flags & 4 else b""
    header += b"layer.tar\0" if flags & 8 else b""
    header += b"why\0" if flags & 16 else b""
    header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
    member = header + gzip.compress(b"tar")[10:]
    for at in range(1, len(header) + 2):
        inflater = Inflater(Compression.GZIP)
        for piece, wanted in ((member + member[:at], b"tar"), (member[at:] + bytes(9), b"tar")):
            assert b"".join(inflater.feed(piece)) == wanted
        inflater.finish()
    assert inflate(member * 3, 1) == b"tartartar"
    for end in range(1, len(header) + 1):
        with pytest.raises(IntegrityError, match="ends too early"):
            inflate(member + member[:end])
