"""Tar headers as Go writes them."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecr_async_pull.archive.layout import BlobContent, Form, Member, MemberKind
from ecr_async_pull.archive.tar import header_of, padded, place
from ecr_async_pull.digest import Digest

GIB = 2**30
NAME = st.text("ab-.", min_size=1, max_size=120).filter(lambda part: part.strip("."))
PATH = st.lists(NAME, min_size=1, max_size=4).map("/".join)


def file(name: str, size_bytes: int = 0, mtime_s: int = 0, mode: int = 0o644) -> Member:
    content = BlobContent(digest=Digest.of(b""), form=Form.TAR, size_bytes=size_bytes)
    return Member(name=name, kind=MemberKind.FILE, mode=mode, mtime_s=mtime_s, content=content)


def read_back(header: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024)), mode="r:") as archive:
        info = archive.next()
        assert info is not None
        return info


@given(PATH, st.integers(0, 2**40), st.integers(0, 2**38), st.sampled_from([0o444, 0o644, 0o755]))
def test_a_header_reads_back_and_is_whole_blocks(name: str, size_bytes: int, mtime_s: int, mode: int) -> None:
    header = header_of(file(name, size_bytes, mtime_s, mode))
    info = read_back(header)
    assert (info.name, info.size, info.mtime, info.mode) == (name, size_bytes, mtime_s, mode)
    assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "", "")
    assert len(header) % 512 == 0


@given(PATH, PATH)
def test_a_link_reads_back(name: str, target: str) -> None:
    info = read_back(
        header_of(Member(name=name, kind=MemberKind.SYMLINK, mode=0o777, mtime_s=0, link_target=target))
    )
    assert info.issym()
    assert info.linkname == target


def test_a_header_is_gos_byte_for_byte() -> None:
    header = header_of(file("manifest.json", 300, 1714979289))
    assert header[:100] == b"manifest.json".ljust(100, b"\0")
    assert header[100:124] == b"0000644\x000000000\x000000000\0"
    assert header[124:148] == b"00000000454\x0014616100731\0"
    assert header[148:157] == b"%06o\0 0" % (sum(header[:148]) + sum(header[156:]) + 256)
    assert header[157:257] == bytes(100)
    assert header[257:265] == b"ustar\x0000"
    assert header[265:329] == bytes(64)
    assert header[329:345] == b"0000000\x000000000\0"
    assert header[345:] == bytes(167)


@pytest.mark.parametrize(("size_bytes", "blocks"), [(8 * GIB - 1, 1), (8 * GIB, 3)])
def test_a_pax_header_begins_at_eight_gibibytes(size_bytes: int, blocks: int) -> None:
    header = header_of(file("V1/layer.tar", size_bytes))
    assert len(header) == blocks * 512
    assert read_back(header).size == size_bytes


def test_a_pax_header_is_gos_byte_for_byte() -> None:
    header = header_of(file("V1/layer.tar", 8 * GIB, 8 * GIB + 1))
    pax, records, real = header[:512], header[512:1024], header[1024:]
    assert pax[:100].rstrip(b"\0") == b"V1/PaxHeaders.0/layer.tar"
    assert pax[100:124] == b"0000000\x000000000\x000000000\0"
    assert pax[136:148] == b"00000000000\0"
    assert pax[156:157] == b"x"
    assert pax[329:345] == bytes(16), "Go leaves the device numbers of a PAX header out"
    assert records.rstrip(b"\0") == b"20 mtime=8589934593\n19 size=8589934592\n"
    assert real[124:148] == b"00000000000\x0000000000000\0"
    assert real[329:345] == b"0000000\x000000000\0"


def test_a_long_name_is_split_at_a_slash_before_pax_is_asked() -> None:
    name = f"{'d' * 60}/{'f' * 64}"
    header = header_of(file(name))
    assert len(header) == 512
    assert header[:100].rstrip(b"\0") == b"f" * 64
    assert header[345:500].rstrip(b"\0") == b"d" * 60


def test_a_name_that_no_slash_splits_goes_to_pax() -> None:
    name = f"blobs/sha512/{'0' * 128}"
    header = header_of(file(name))
    assert len(header) == 3 * 512
    assert header[512:1024].startswith(b"151 path=blobs/sha512/000")
    assert header[1024:1124] == name[:100].encode()
    assert read_back(header).name == name


@given(st.lists(st.tuples(PATH, st.binary(max_size=1500)), max_size=8))
def test_members_follow_each_other_in_whole_blocks_and_two_zero_blocks_end_all(
    contents: list[tuple[str, bytes]],
) -> None:
    members = [
        Member(name=name, kind=MemberKind.FILE, mode=0o644, mtime_s=0, content=data)
        for name, data in contents
    ]
    placements, size_bytes = place(members)
    archive = bytearray(size_bytes)
    for placement, (_, data) in zip(placements, contents, strict=True):
        archive[placement.header_offset : placement.data_offset] = placement.header
        archive[placement.data_offset : placement.data_offset + len(data)] = data
    end = placements[-1].data_offset + padded(len(contents[-1][1])) if contents else 0
    assert size_bytes == end + 1024
    with tarfile.open(fileobj=io.BytesIO(bytes(archive)), mode="r:") as reader:
        found = [(info.name, reader.extractfile(info)) for info in reader]
    assert [name for name, _ in found] == [name for name, _ in contents]


def test_directories_and_links_have_no_data() -> None:
    directory = Member(name="d/", kind=MemberKind.DIRECTORY, mode=0o755, mtime_s=0)
    link = Member(name="l", kind=MemberKind.SYMLINK, mode=0o777, mtime_s=0, link_target="d")
    placements, size_bytes = place([directory, link])
    assert [placement.data_offset for placement in placements] == [512, 1024]
    assert size_bytes == 2048
