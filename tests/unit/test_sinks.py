"""Slots: what does not fit goes elsewhere, and never over a neighbour."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecr_async_pull.transfer.sinks import Extent, SlotSink, copy_range, write_at


def read(extent: Extent) -> bytes:
    with extent.path.open("rb") as file:
        return os.pread(file.fileno(), extent.size_bytes, extent.offset)


@settings(deadline=None, max_examples=60)
@given(pieces=st.lists(st.binary(max_size=50), max_size=10), slot=st.integers(0, 200) | st.none())
def test_a_layer_lies_whole_somewhere_and_no_neighbour_is_touched(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], slot: int | None
) -> None:
    directory = tmp_path_factory.mktemp("slots")
    archive = directory / "archive"
    neighbours = b"N" * 1000
    archive.write_bytes(neighbours)
    sink = SlotSink(
        archive=archive, offset=300, slot_bytes=slot, spill=directory / "spill", turn=threading.Lock()
    )
    sink.open()
    for piece in pieces:
        sink.write(memoryview(piece))
    sink.close()
    whole = b"".join(pieces)
    assert sink.extent.size_bytes == len(whole)
    if whole:
        assert read(sink.extent) == whole
    after = archive.read_bytes()
    assert after[:300] == neighbours[:300]
    assert after[300 + (slot or 0) :] == neighbours[300 + (slot or 0) :]
    is_spilled = slot is None or len(whole) > slot
    assert (sink.extent.path == directory / "spill") == is_spilled


def test_a_layer_smaller_than_its_slot_says_so(tmp_path: Path) -> None:
    sink = SlotSink(
        archive=tmp_path / "a", offset=512, slot_bytes=100, spill=tmp_path / "s", turn=threading.Lock()
    )
    sink.open()
    sink.write(b"abc")
    sink.close()
    assert sink.extent == Extent(path=tmp_path / "a", offset=512, size_bytes=3)


@pytest.mark.parametrize("first", [b"short", b"longer than its slot"])
def test_a_sink_begun_anew_holds_only_the_second_layer(tmp_path: Path, first: bytes) -> None:
    sink = SlotSink(
        archive=tmp_path / "a", offset=0, slot_bytes=8, spill=tmp_path / "s", turn=threading.Lock()
    )
    for content in (first, b"second"):
        sink.open()
        sink.write(content)
    sink.close()
    sink.close()
    assert sink.extent.size_bytes == 6
    assert read(sink.extent) == b"second"


@pytest.mark.parametrize("target", ["regular", "pipe-less", "/dev/full"])
def test_ranges_are_copied_whole_or_an_error_says_why(tmp_path: Path, target: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 4096)
    path = Path(target) if target.startswith("/") else tmp_path / target
    source_fd, target_fd = os.open(source, os.O_RDONLY), os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        if target == "/dev/full":
            with pytest.raises(OSError, match="No space"):
                copy_range(source_fd, 0, target_fd, 0, 1000)
            return
        copy_range(source_fd, 100, target_fd, 7, 1_000_000)
        assert path.read_bytes()[7:] == source.read_bytes()[100:1_000_100]
        with pytest.raises(EOFError):
            copy_range(source_fd, 1_000_000, target_fd, 0, 1_000_000)
    finally:
        os.close(source_fd)
        os.close(target_fd)


def test_a_copy_between_file_systems_is_whole(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    source = tmp_path / "source"
    source.write_bytes(b"abc" * 300_000)
    target_fd = os.open(shared, os.O_RDWR | os.O_TMPFILE)
    try:
        with source.open("rb") as file:
            copy_range(file.fileno(), 3, target_fd, 0, 899_997)
        assert os.pread(target_fd, 1 << 20, 0) == source.read_bytes()[3:]
    finally:
        os.close(target_fd)


def test_a_write_is_whole(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    try:
        write_at(fd, memoryview(b"abc"), 4)
        assert os.pread(fd, 10, 0) == b"\0\0\0\0abc"
    finally:
        os.close(fd)
