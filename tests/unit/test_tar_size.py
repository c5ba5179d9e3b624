"""What a blob's own bytes tell of its inflated size."""

from __future__ import annotations

import gzip
import random
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from ecr_async_pull.transfer.tar_size import telling_range, told_tar_size

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
TEXT = b"".join(b"%d %d\n" % (number, number * number) for number in range(20_000))


def test_the_telling_range_lies_where_the_format_has_its_size() -> None:
    assert telling_range(GZIP, 1 << 20) == ((1 << 20) - (16 << 10), 1 << 20)
    assert telling_range(GZIP, 100) == (0, 100)
    assert telling_range(ZSTD, 1 << 20) == (0, 18)
    assert telling_range(ZSTD, 10) == (0, 10)
    assert telling_range("application/vnd.oci.image.layer.v1.tar", 1 << 20) is None


def test_the_size_of_one_member_is_its_last_four_bytes() -> None:
    stored = gzip.compress(TEXT)
    assert told_tar_size(GZIP, stored, len(stored)) == len(TEXT)


def test_an_incompressible_layer_keeps_its_size() -> None:
    data = random.Random(2).randbytes(1 << 20)
    stored = gzip.compress(data, 1)
    assert len(stored) > len(data)
    assert told_tar_size(GZIP, stored, len(stored)) == len(data)


def test_a_layer_beyond_4_gib_is_guessed_from_what_is_stored() -> None:
    for size, stored in (((6 << 30) + 12345, 5 << 30), ((4 << 30) + 7, 3 << 30), (3 << 30, 1 << 30)):
        assert told_tar_size(GZIP, (size % (1 << 32)).to_bytes(4, "little"), stored) == size


@settings(deadline=None)
@given(st.binary(min_size=4, max_size=4), st.integers(0, 1 << 36))
def test_any_last_bytes_give_a_guess(last_four: bytes, stored_bytes: int) -> None:
    size = told_tar_size(GZIP, last_four, stored_bytes)
    assert size is not None
    assert size % (1 << 32) == int.from_bytes(last_four, "little")


def test_a_zstd_header_may_name_the_size_or_not() -> None:
    assert told_tar_size(ZSTD, zstd.compress(TEXT)[:18], 1000) == len(TEXT)
    packer = zstd.ZstdCompressor()
    streamed = packer.compress(TEXT) + packer.flush()
    assert told_tar_size(ZSTD, streamed[:18], 1000) is None
    assert told_tar_size(ZSTD, b"\x28\xb5\x2f\xfd", 1000) is None
    assert told_tar_size(ZSTD, b"no header at all..", 1000) is None
